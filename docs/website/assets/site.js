// What the theme leaves out for people who use a keyboard or a screen reader.
"use strict";

// The overlay is only a place to click on; a label outside all landmarks needs no name.
for (const overlay of document.querySelectorAll(".md-overlay")) {
  overlay.removeAttribute("aria-label");
  overlay.setAttribute("aria-hidden", "true");
}

function improve() {
  // Without this, a wide block cannot be scrolled with the keyboard.
  for (const code of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) {
    if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
  }
  // The copy button of each block is in a navigation of its own, all of them without a name.
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) nav.setAttribute("role", "none");
}

// The theme adds to the page as it is read.
new MutationObserver(improve).observe(document.body, {childList: true, subtree: true});
addEventListener("resize", improve);
improve();
