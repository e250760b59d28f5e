"use strict";
const filter = document.getElementById("filter");
const attention = document.getElementById("attention");
const fine = new Set(["passed", "skipped"]);
function show() {
  const wanted = filter.value.trim().toLowerCase();
  for (const section of document.querySelectorAll("section.scenario")) {
    const hit = (!wanted || section.textContent.toLowerCase().includes(wanted)) &&
      (!attention.checked || !fine.has(section.dataset.outcome));
    section.hidden = !hit;
    document.querySelector(`tr[data-for="${section.id}"]`).hidden = !hit;
    if (wanted && hit) for (const step of section.querySelectorAll("details")) step.open = true;
  }
}
filter.addEventListener("input", show);
attention.addEventListener("change", show);
