// Runs in a copy of the report, whose policy lets no script run; leaves its findings in the page.
const shown = () => [...document.querySelectorAll(".gallery > figure")]
  .filter(figure => figure.checkVisibility())
  .map(figure => figure.querySelector("span").textContent);
const choose = (which, text) => {
  const select = document.querySelector(which);
  select.selectedIndex = [...select.options].findIndex(option => option.text === text);
};
const findings = {};
findings.all = shown();
choose(".by-group", "worst");
findings.worst = shown();
choose(".by-breed", "pug");
findings.both = shown();
findings.nothing = document.querySelector(".nothing").checkVisibility();
choose(".by-group", "all");
findings.pug = shown();
findings.still = document.querySelector(".nothing").checkVisibility();
findings.width = innerWidth;
findings.overflow = document.documentElement.scrollWidth - innerWidth;
findings.page = getComputedStyle(document.body).backgroundColor;
findings.broken = [...document.images]
  .filter(image => !image.complete || !image.naturalWidth).length;
document.body.insertAdjacentHTML("beforeend", `<pre id="probe"></pre>`);
document.getElementById("probe").textContent = JSON.stringify(findings);
