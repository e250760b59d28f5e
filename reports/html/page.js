// What the page does besides drawing: choosing, sorting, copying and linking.
(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const filter = document.getElementById("filter");
  const attention = document.getElementById("attention");
  const fine = new Set(["passed", "skipped"]);
  const sections = all("section.scenario");
  const rows = new Map(all("tr[data-for]").map(row => [row.dataset.for, row]));
  const chips = all("[data-chip]");

  function show() {
    const wanted = filter.value.trim().toLowerCase();
    const outcomes = new Set(chips.filter(c => c.getAttribute("aria-pressed") === "true").map(c => c.dataset.chip));
    let n = 0;
    for (const section of sections) {
      const row = rows.get(section.id);
      const outcome = section.dataset.outcome;
      const hit = outcomes.has(outcome) && (!attention.checked || !fine.has(outcome)) &&
        (!wanted || section.textContent.toLowerCase().includes(wanted) || row.textContent.toLowerCase().includes(wanted));
      section.hidden = row.hidden = !hit;
      if (hit) n++;
      if (wanted && hit) for (const step of section.querySelectorAll("details.step")) step.open = true;
    }
    document.getElementById("shown").textContent = n === sections.length ? "" : `${n} of ${sections.length} shown`;
  }
  filter.addEventListener("input", show);
  attention.addEventListener("change", show);
  for (const chip of chips) chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
    show();
  });

  const list = document.getElementById("list");
  for (const button of all("[data-sort]")) button.addEventListener("click", () => {
    const column = Number(button.dataset.sort);
    const head = button.closest("th");
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const th of list.tHead.rows[0].cells) th.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].textContent;
    const order = column < 2 ? (a, b) => key(a).localeCompare(key(b)) : (a, b) => parseFloat(key(a)) - parseFloat(key(b));
    const sorted = [...list.tBodies[0].rows].sort((a, b) => (up ? 1 : -1) * order(a, b));
    list.tBodies[0].append(...sorted);
  });

  for (const button of all("[data-copy]")) button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "copied";
    } catch { // a page from disk may not write to the clipboard everywhere
      getSelection().selectAllChildren(source);
      button.textContent = "selected";
    }
  });

  for (const button of all(".part button")) button.addEventListener("click", () => {
    const rules = button.closest("tbody").nextElementSibling;
    rules.hidden = !rules.hidden;
    button.setAttribute("aria-expanded", !rules.hidden);
  });

  // Time lines are made when they come near the window.
  const lines = new Map();
  const make = host => {
    if (!lines.has(host)) lines.set(host, Timeline.from(host).catch(err => {
      host.append(Object.assign(document.createElement("p"), { className: "reason", textContent: `The time line cannot be drawn: ${err.message}` }));
    }));
    return lines.get(host);
  };
  const near = new IntersectionObserver(seen => {
    for (const one of seen) if (one.isIntersecting) {
      near.unobserve(one.target);
      make(one.target);
    }
  }, { rootMargin: "300px" });
  const hosts = all(".timeline");
  for (const host of hosts) near.observe(host);
  // A page that is printed has those, too, that nobody has scrolled to, as long as
  // they are not very many.
  if (hosts.length <= 30) {
    const rest = [...hosts];
    const idle = () => rest.length && requestIdleCallback(async () => {
      await make(rest.shift());
      idle();
    });
    if (self.requestIdleCallback) idle();
  }
  addEventListener("beforeprint", () => { for (const line of lines.values()) line.then(l => l && l.draw()); });

  // #scenario/request leads to one request.
  async function follow() {
    const [scenario, request] = decodeURIComponent(location.hash.slice(1)).split("/");
    const section = document.getElementById(scenario);
    if (!request || !section) return;
    if (section.hidden) {
      filter.value = "";
      attention.checked = false;
      for (const chip of chips) chip.setAttribute("aria-pressed", "true");
      show();
    }
    section.scrollIntoView();
    const host = section.querySelector(".timeline");
    const line = host && await make(host);
    if (line) line.go(request);
  }
  addEventListener("hashchange", follow);
  follow();
  document.documentElement.dataset.ready = "";
})();
