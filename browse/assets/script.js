"use strict";
// Shows the copy buttons if the browser lets pages write to the clipboard.
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("[data-rk-copy]")) {
    const source = document.getElementById(button.dataset.rkCopy);
    const label = button.textContent;
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = label; }, 2000);
    });
    button.hidden = false;
  }
}
