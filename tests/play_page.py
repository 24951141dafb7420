"""The page of `genie-gym play`, as tests see and handle it."""

import numpy as np
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from tests.browser import until


class Page:
    """The page, as a player sees and handles it."""

    def __init__(self, driver):
        self.driver = driver
        driver.get(driver.url)
        until(lambda: self.frame() is not None)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def frame(self):
        """The numbers of the newest frame."""
        return self.run(
            "return play.frame && JSON.parse(JSON.stringify(play.frame,"
            " (name, value) => name === 'frame' || name === 'patches' ? undefined : value))"
        )

    def pixels(self, kind, layer=0):
        """What a canvas shows: the dream (at 0 or 1) or the real game, and what lies over it."""
        data = self.run(
            "const c = document.querySelectorAll(arguments[0])[arguments[1]]"
            ".querySelectorAll('canvas')[arguments[2]];"
            "const copy = new OffscreenCanvas(c.width, c.height);"
            "const pen = copy.getContext('2d', { willReadFrequently: true });"
            "pen.drawImage(c, 0, 0);"
            "return [c.hidden, Array.from(pen.getImageData(0, 0, c.width, c.height).data)]",
            ".screen.real" if kind == "real" else ".screen.dream",
            0 if kind == "real" else kind,
            layer,
        )
        hidden, values = data
        side = round((len(values) / 4) ** 0.5)
        return None if hidden else np.array(values, np.uint8).reshape(side, side, 4)

    def click(self, name):
        self.driver.find_element(By.ID, name).click()

    def switch(self, name):
        self.run("document.getElementById(arguments[0]).click()", name)

    def shown(self, name):
        return self.driver.find_element(By.ID, name).is_displayed()

    def pause(self):
        if not self.frame()["paused"]:
            self.click("pause")
        until(lambda: self.frame()["paused"])

    def begin(self, seed):
        """Pause at the beginning of this seed."""
        self.pause()
        field = self.driver.find_element(By.ID, "seed")
        field.clear()
        field.send_keys(str(seed), Keys.ENTER)
        until(lambda: self.frame()["seed"] == seed and self.frame()["end"] == 0)

    def rewind_to(self, now):
        slider = self.driver.find_element(By.ID, "rewind")
        self.run(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', { bubbles: true }))",
            slider,
            now - self.frame()["earliest"],
        )
        until(lambda: self.frame()["now"] == now)

    def step(self, count=1):
        for _ in range(count):
            before = self.frame()["now"]
            self.click("step")
            until(lambda before=before: self.frame()["now"] == before + 1)

    def go_on(self):
        """Dream on, also where the dream believes that the episode has ended."""
        self.run("setInterval(() => play.frame.paused && play.link.send('pause', false), 50)")

    def hold(self, *keys):
        chain = ActionChains(self.driver)
        for key in keys:
            chain.key_down(key)
        chain.perform()

    def let_go(self, *keys):
        chain = ActionChains(self.driver)
        for key in keys:
            chain.key_up(key)
        chain.perform()
