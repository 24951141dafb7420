"""Questions that were asked once, and what drew pictures of docs: `genie-gym bench NAME` too."""
