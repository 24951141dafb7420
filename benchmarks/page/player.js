// Plays the real game and the dream side by side. `moments` are sheets of frames: real above dream.
const moments = JSON.parse(document.getElementById("moments").textContent);
const [real, dream, error] = ["real", "dream", "error"].map((id) =>
  document.getElementById(id).getContext("2d", { willReadFrequently: true })
);
const choose = document.getElementById("moment");
const play = document.getElementById("play");
const slider = document.getElementById("step");
const caption = document.getElementById("caption");
const sheet = new Image();
let timer = null;

function show(step) {
  const size = sheet.height / 2;
  for (const [row, screen] of [real, dream].entries()) {
    screen.canvas.width = screen.canvas.height = size;
    screen.drawImage(sheet, step * size, row * size, size, size, 0, 0, size, size);
  }
  const a = real.getImageData(0, 0, size, size);
  const b = dream.getImageData(0, 0, size, size);
  for (let i = 0; i < a.data.length; i += 4) {
    let sum = 0;
    for (let c = 0; c < 3; c++) sum += Math.abs(a.data[i + c] - b.data[i + c]);
    a.data[i] = a.data[i + 1] = a.data[i + 2] = Math.min(255, (2 * sum) / 3);
  }
  error.canvas.width = error.canvas.height = size;
  error.putImageData(a, 0, 0);
  slider.value = step;
  const { actions } = moments[choose.value];
  caption.textContent =
    step === 0 ? "the real frame it begins with" : `step ${step} of ${actions.length}, after ${actions[step - 1]}`;
}

function load() {
  sheet.src = moments[choose.value].sheet;
  slider.max = moments[choose.value].actions.length;
}

function advance() {
  const step = Number(slider.value) + 1;
  if (step > Number(slider.max)) {
    choose.value = (Number(choose.value) + 1) % moments.length;
    slider.value = 0;
    load();
  } else show(step);
}

function run(on) {
  clearInterval(timer);
  timer = on ? setInterval(advance, 350) : null;
  play.textContent = on ? "Pause" : "Play";
}

for (const [number, { name }] of moments.entries()) choose.add(new Option(name, number));
sheet.onload = () => show(Number(slider.value));
choose.onchange = () => { slider.value = 0; load(); };
slider.oninput = () => { run(false); show(Number(slider.value)); };
play.onclick = () => run(timer === null);
slider.value = 0;
load();
run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
