/* Theme, filter, legend, and the numbers under every learning chart. The page reads without it. */
(function () {
  "use strict";
  const root = document.documentElement;
  const all = (selector, base) => [...(base || document).querySelectorAll(selector)];

  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  function theme(name) {
    if (name === "auto") delete root.dataset.theme; else root.dataset.theme = name;
    button.textContent = "Theme: " + name;
    try { localStorage.setItem("olmeval-theme", name); } catch { /* a file may not store */ }
  }
  let stored = null;
  try { stored = localStorage.getItem("olmeval-theme"); } catch { /* the same */ }
  theme(themes.includes(stored) ? stored : "auto");
  button.addEventListener("click", () => {
    theme(themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length]);
  });

  const filter = document.getElementById("filter");
  if (filter) {
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase();
      all("[data-task]").forEach((one) => {
        one.hidden = !one.dataset.task.toLowerCase().includes(wanted);
      });
    });
  }

  all(".legend button").forEach((one) => {
    one.addEventListener("click", () => {
      const shown = one.getAttribute("aria-pressed") === "false";
      one.setAttribute("aria-pressed", String(shown));
      all(`.chart [data-s="${one.dataset.s}"]`).forEach((line) => {
        line.style.display = shown ? "" : "none";
      });
    });
  });

  const source = document.getElementById("chart-data");
  if (!source) { root.dataset.ready = "true"; return; }
  const { series, charts, box } = JSON.parse(source.textContent);
  const figures = all(".charts figure");
  const hidden = (slot) =>
    all(`.legend button[data-s="${slot}"]`).some((b) => b.getAttribute("aria-pressed") === "false");
  const amount = (x) => {
    for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (Math.abs(x) >= size) return +(x / size).toPrecision(3) + unit;
    }
    return String(+x.toPrecision(3));
  };
  const score = (y, half) => {
    const places = half > 0 ? Math.max(2, Math.min(5, 1 - Math.floor(Math.log10(half / 1.96)))) : 4;
    return y.toFixed(places) + (half === undefined ? "" : " ± " + half.toFixed(places));
  };

  function element(tag, text, attributes) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    Object.entries(attributes || {}).forEach(([k, v]) => made.setAttribute(k, v));
    return made;
  }

  /* Every checkpoint of every run, for those who do not read charts. */
  function values(chart) {
    const steps = [...new Set(chart.s.flatMap(([, x]) => x))].sort((a, b) => a - b);
    const table = element("table");
    const head = table.createTHead().insertRow();
    head.append(element("th", chart.x, { scope: "col" }));
    chart.s.forEach(([slot]) => {
      head.append(element("th", series[slot], { scope: "col", class: "number" }));
    });
    const body = table.createTBody();
    steps.forEach((x) => {
      const row = body.insertRow();
      row.append(element("th", amount(x), { scope: "row" }));
      chart.s.forEach(([, xs, ys, halves]) => {
        const k = xs.indexOf(x);
        row.append(element("td", k < 0 ? "–" : score(ys[k], halves[k]), { class: "number" }));
      });
    });
    const scroll = element("div", undefined, {
      class: "scroll", tabindex: "0", role: "region", "aria-label": "Values of " + chart.t,
    });
    scroll.append(table);
    return scroll;
  }

  figures.forEach((figure, i) => {
    const chart = charts[i];
    const svg = figure.querySelector(".chart");
    const [left, right, , , log] = svg.dataset.axes.split(",").map(Number);
    const places = [...new Set(chart.s.flatMap(([, x]) => x))].sort((a, b) => a - b);
    const at = (x) =>
      box.left + (((log ? Math.log10(x) : x) - left) / (right - left)) * (box.right - box.left);
    let tip = null, line = null, current = -1;

    function show(k) {
      current = k;
      const x = places[k];
      if (!tip) {
        tip = figure.appendChild(element("div", undefined, { class: "tip", role: "status" }));
        line = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
        line.setAttribute("class", "cursor");
      }
      line.setAttribute("d", `M${at(x)} ${box.top}V${box.bottom}`);
      tip.replaceChildren(element("div", `${amount(x)} ${chart.x}`));
      chart.s.forEach(([slot, xs, ys, halves]) => {
        const j = xs.indexOf(x);
        if (j < 0 || hidden(slot)) return;
        const row = element("div");
        const sample = document.querySelector(`.legend button[data-s="${slot}"] svg`);
        if (sample) row.append(sample.cloneNode(true));
        row.append(element("bdi", series[slot]), element("b", score(ys[j], halves[j])));
        tip.append(row);
      });
      const part = at(x) / box.width;
      tip.style.top = "2.2rem";
      tip.style.left = part < 0.5 ? `calc(${100 * part}% + 10px)` : "";
      tip.style.right = part < 0.5 ? "" : `calc(${100 * (1 - part)}% + 10px)`;
    }
    function hide() {
      if (tip) { tip.remove(); line.remove(); tip = line = null; current = -1; }
    }
    svg.addEventListener("pointermove", (event) => {
      const size = svg.getBoundingClientRect();
      const x = ((event.clientX - size.left) / size.width) * box.width;
      let best = 0;
      places.forEach((place, k) => {
        if (Math.abs(at(place) - x) < Math.abs(at(places[best]) - x)) best = k;
      });
      if (best !== current) show(best);
    });
    svg.addEventListener("pointerleave", hide);
    figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", (event) => {
      if (event.target !== figure) return;
      const last = places.length - 1;
      const next = { ArrowRight: Math.min(current + 1, last), Home: 0, End: last,
        ArrowLeft: current < 0 ? last : Math.max(current - 1, 0) }[event.key];
      if (next !== undefined) { event.preventDefault(); show(next); }
      if (event.key === "Escape") hide();
    });
    const details = figure.querySelector(".values");
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(values(chart));
    });
  });
  root.dataset.ready = "true";
})();
