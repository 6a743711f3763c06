/* Draws the charts of the page in its light or dark palette, and lets the legend hide runs. */
(function () {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const hidden = new Set();
  const coarse = matchMedia("(pointer: coarse)").matches;
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;

  /* A variable may be light-dark(...), which only the colour of an element resolves. */
  function variable(name) {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  }

  function themed(figure) {
    const ink = variable("--ink"), faint = variable("--faint"), ground = variable("--ground");
    const data = figure.data.map((trace) => {
      const color = variable("--series-" + trace.meta.color);
      const visible = !hidden.has(trace.meta.series);
      if (trace.meta.band) return { ...trace, visible, fillcolor: color.replace("rgb(", "rgba(").replace(")", ", .18)") };
      return {
        ...trace, visible,
        line: { ...trace.line, color },
        marker: { ...trace.marker, color },
        error_y: trace.error_y && { ...trace.error_y, color },
      };
    });
    const axis = { gridcolor: faint, linecolor: faint, zeroline: false, automargin: true };
    const layout = {
      ...figure.layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: variable("--soft") },
      hoverlabel: { bgcolor: ground, bordercolor: faint, font: { color: ink }, namelength: -1 },
      dragmode: coarse ? false : "zoom",
      xaxis: { ...figure.layout.xaxis, ...axis },
      yaxis: { ...figure.layout.yaxis, ...axis },
    };
    return [data, layout];
  }

  function draw() {
    plots.forEach((plot, i) => {
      const [data, layout] = themed(charts[i]);
      Plotly.react(plot, data, layout, { responsive: true, displayModeBar: false });
    });
    document.documentElement.dataset.drawn = String(plots.length);
  }

  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const series = Number(button.dataset.series);
      const shown = hidden.delete(series);
      if (!shown) hidden.add(series);
      button.setAttribute("aria-pressed", String(shown));
      draw();
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
