// What the theme leaves out for people who use a keyboard or a screen reader.
"use strict";

const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflow);

function improvePage() {
  // The overlay is only a place to click on; a label outside all landmarks needs no name.
  for (const overlay of document.querySelectorAll(".md-overlay")) {
    overlay.removeAttribute("aria-label");
    overlay.ariaHidden = "true";
  }
  // Without this, a wide block cannot be scrolled with the keyboard.
  for (const block of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) {
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
  }
  // The copy button of each block is in a navigation of its own, none of which has a name.
  for (const nav of document.querySelectorAll("nav.md-code__nav")) nav.role = "none";
}

function improveSearch(root) {
  for (const part of root.children) {
    if (part.tagName === "DIV") part.role = "search";
  }
  for (const input of root.querySelectorAll("input")) {
    input.role = "searchbox"; // no list of suggestions is attached to it
    input.ariaLabel = "Search";
  }
  [...root.querySelectorAll("button")].forEach((button, i) => { button.ariaLabel ??= ["Close", "Filter"][i] ?? "More"; });
  // A page may have no heading of the second level before these.
  for (const heading of root.querySelectorAll("h3, h4")) heading.ariaLevel = heading.tagName[1] - 1;
  for (const part of root.querySelectorAll("div")) if (scrolls(part)) part.tabIndex = 0;
}

function improve() {
  improvePage();
  for (const host of document.querySelectorAll("body > div")) {
    if (host.shadowRoot) {
      improveSearch(host.shadowRoot);
      observer.observe(host.shadowRoot, changes);
    }
  }
}

// The theme adds to the page as it is read.
const changes = {childList: true, subtree: true}, observer = new MutationObserver(improve);
observer.observe(document.body, changes);
addEventListener("resize", improve);
improve();
