// Charts from the page's JSON through plotly.js, redrawn when the theme changes.
"use strict";
(function charts() {
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "x"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const people = karat.data.contestants;
  const specs = new Map(karat.data.charts.map((chart) => [chart.id, chart]));
  const state = new Map();

  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const mix = (a, b, share) => "#" + rgb(a).map((v, i) =>
    Math.round(v * (1 - share) + rgb(b)[i] * share).toString(16).padStart(2, "0")).join("");
  const fade = (hex, alpha) => `rgba(${rgb(hex).join(",")},${alpha})`;
  const style = (who) => {
    const person = people[who];
    if (!person || person.reference) return { colour: karat.colour("--sref"), symbol: "circle-open", reference: true };
    const base = karat.colour(`--s${person.slot % 8}`);
    const toward = karat.colour(person.shade < 0 ? "--surface" : "--ink");
    const colour = mix(base, toward, Math.min(0.62, Math.abs(person.shade)));
    const symbol = SYMBOLS[person.slot % SYMBOLS.length];
    return { colour, symbol: person.slot >= 8 ? `${symbol}-open` : symbol, reference: false };
  };
  karat.style = style;

  const axis = (title, log, extra = {}) => ({
    title: { text: title, standoff: 8, font: { size: 12 } }, type: log ? "log" : undefined,
    gridcolor: karat.colour("--grid"), linecolor: karat.colour("--line-2"), linewidth: 1, zeroline: false,
    ticks: "outside", ticklen: 4, tickcolor: karat.colour("--line-2"), automargin: true,
    exponentformat: "power", minexponent: 5, tickfont: { size: 11 }, hoverformat: ".4~g", ...extra,
  });
  // Ticks of a logarithmic axis, written out: 1, 2 and 5 of each decade, or decades only.
  const logTicks = (values) => {
    const sizes = values.filter((v) => v > 0);
    if (!sizes.length) return {};
    const low = Math.log10(Math.min(...sizes)), high = Math.log10(Math.max(...sizes));
    if (high - low < 0.2) {
      // less than a factor of 1.6: round numbers at equal distances
      const span = 10 ** high - 10 ** low || 10 ** low, unit = 10 ** Math.floor(Math.log10(span / 2));
      const step = unit * [1, 2, 5, 10].find((m) => span / (m * unit) <= 5);
      const first = Math.floor(10 ** low / step), count = Math.ceil(10 ** high / step) - first;
      const even = Array.from({ length: count + 1 }, (_, i) => (first + i) * step).filter((v) => v > 0);
      return { tickvals: even, ticktext: even.map((v) => String(Number(v.toPrecision(4)))) };
    }
    const decades = Math.max(1, Math.ceil((high - low) / 7));
    const steps = high - low < 0.7 ? [1, 1.5, 2, 3, 4, 5, 7] : high - low < 2.6 ? [1, 2, 5] : [1];
    const tickvals = [];
    for (let k = Math.floor(low) - 1; k <= high + 1; k += decades) steps.forEach((m) => tickvals.push(m * 10 ** k));
    const write = (v) => {
      const k = Math.floor(Math.log10(v) + 1e-9);
      if (k >= -3 && k < 5) return String(Number(v.toPrecision(3)));
      const m = Number((v / 10 ** k).toPrecision(2));
      return `${m === 1 ? "" : `${m}×`}10<sup>${String(k).replace("-", "−")}</sup>`;
    };
    return { tickvals, ticktext: tickvals.map(write) };
  };
  const layout = (extra) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    font: { family: karat.colour("--sans"), size: 12, color: karat.colour("--ink-2") },
    margin: { l: 58, r: 14, t: 12, b: 46 }, height: 340, hovermode: "closest", dragmode: "pan",
    hoverlabel: { bgcolor: karat.colour("--raised"), bordercolor: karat.colour("--line-2"),
      font: { color: karat.colour("--ink"), size: 12 }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: karat.colour("--ink-3"), activecolor: karat.colour("--ink") }, ...extra,
  });
  const config = { responsive: true, displaylogo: false, displayModeBar: true, scrollZoom: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

  const bars = (s, colour) => s.low.length && s.y.length <= 40 ? {
    type: "data", symmetric: false, thickness: 1.2, width: 3, color: fade(colour, 0.8),
    array: s.y.map((v, i) => s.high[i] - v), arrayminus: s.y.map((v, i) => v - s.low[i]),
  } : undefined;
  const band = (s, colour) => ({
    x: s.x.concat([...s.x].reverse()), y: s.high.concat([...s.low].reverse()), type: "scatter",
    mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: fade(colour, 0.14), hoverinfo: "skip",
  });

  const trace = (spec, s) => {
    const look = style(s.who), colour = look.colour, dash = DASHES[(s.dash || 0) % DASHES.length];
    const common = { x: s.x, y: s.y, name: s.name, type: "scatter", text: s.labels.length ? s.labels : undefined,
      hovertemplate: `${s.labels.length ? "%{text}<br>" : ""}%{x}, <b>%{y}</b><extra>${s.hover}</extra>` };
    if (spec.kind === "bars") {
      return [{ ...common, type: "bar", marker: { color: colour }, error_y: bars(s, colour) }];
    }
    if (spec.kind === "histogram") {
      return [{ ...common, mode: "lines", line: { color: colour, width: 2, shape: "hvh", dash },
        fill: "tozeroy", fillcolor: fade(colour, 0.1) }];
    }
    const lines = spec.kind === "lines";
    const marker = { color: colour, symbol: look.symbol, size: lines ? (s.y.length <= 24 ? 7 : 0.01) : 6,
      opacity: lines ? 1 : 0.6, line: { width: lines ? 0 : 0.5, color: karat.colour("--surface") } };
    const line = { color: colour, width: look.reference ? 2.4 : 2, dash: look.reference ? "dash" : dash };
    const main = { ...common, mode: lines ? (s.y.length <= 24 ? "lines+markers" : "lines") : "markers", marker, line,
      error_y: bars(s, colour) };
    return lines && s.low.length && s.y.length > 40 ? [band(s, colour), main] : [main];
  };

  const plain = (spec) => {
    const series = [], traces = [];
    spec.series.forEach((s, i) => trace(spec, s).forEach((t) => { series.push(i); traces.push(t); }));
    const text = spec.kind === "bars" || spec.series.some((s) => s.x.some((v) => typeof v === "string"));
    return { series, traces, layout: layout({
      xaxis: axis(spec.x, spec.log_x, text ? { type: "category" } : spec.log_x ? logTicks(spec.series.flatMap((s) => s.x)) : {}),
      yaxis: axis(spec.y, spec.log_y, spec.kind === "histogram" ? { rangemode: "tozero" } : spec.log_y ? logTicks(spec.series.flatMap((s) => [...s.y, ...s.low, ...s.high])) : {}),
      barmode: "group", bargap: 0.25, bargroupgap: 0.08, height: spec.height || 340 }) };
  };

  const parity = (spec, width) => {
    const most = Math.max(1, Math.min(spec.panels.length, Math.floor(width / 215)));
    const rows = Math.ceil(spec.panels.length / most), columns = Math.ceil(spec.panels.length / rows);
    const gap = { x: Math.min(0.04, 0.3 / columns), y: Math.min(0.12, 56 / (rows * 250)) };
    const w = (1 - gap.x * (columns - 1)) / columns, h = (1 - gap.y * (rows - 1)) / rows;
    const out = { series: [], traces: [], layout: layout({ annotations: [], shapes: [], height: 80 + rows * 250, margin: { l: 62, r: 10, t: 26, b: 50 } }) };
    spec.panels.forEach((panel, i) => {
      const column = i % columns, row = Math.floor(i / columns), key = i ? String(i + 1) : "";
      const left = column * (w + gap.x), top = 1 - row * (h + gap.y);
      const edge = { left: column === 0, bottom: i + columns >= spec.panels.length };
      const link = i ? { matches: "x" } : {}, linkY = i ? { matches: "y" } : {};
      out.layout[`xaxis${key}`] = axis(edge.bottom ? spec.x : "", false, { domain: [left, left + w], anchor: `y${key}`, range: spec.range, showticklabels: edge.bottom, nticks: 5, ...link });
      out.layout[`yaxis${key}`] = axis(edge.left ? spec.y : "", false, { domain: [top - h, top], anchor: `x${key}`, range: spec.range, showticklabels: edge.left, nticks: 6, ...linkY });
      out.layout.shapes.push({ type: "line", xref: `x${key}`, yref: `y${key}`, x0: spec.range[0], y0: spec.range[0], x1: spec.range[1], y1: spec.range[1], line: { color: karat.colour("--line-2"), width: 1.2 }, layer: "below" });
      out.layout.annotations.push({ text: panel.title, xref: "paper", yref: "paper", x: left, y: top, xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12, color: karat.colour("--ink") } });
      panel.series.forEach((s, j) => trace({ kind: "points" }, s).forEach((t) => {
        t.xaxis = `x${key}`; t.yaxis = `y${key}`; t.marker.size = s.y.length < 80 ? 7 : 4; t.marker.opacity = s.y.length < 80 ? 0.85 : 0.5;
        if (j) t.marker.symbol = SYMBOLS[(j + 1) % SYMBOLS.length] + "-open";
        out.traces.push(t); out.series.push(i);
      }));
    });
    return out;
  };

  const front = (spec, choice) => {
    const view = spec.choices[choice], traces = [], series = [];
    const best = view.points.filter((p) => p.pareto).sort((a, b) => a.x - b.x);
    traces.push({ x: best.map((p) => p.x), y: best.map((p) => p.y), type: "scatter", mode: "lines", hoverinfo: "skip",
      line: { color: karat.colour("--gold-fill"), width: 2, shape: "hv", dash: "dot" } });
    view.points.forEach((p) => {
      const look = style(p.who);
      const error = (v, low, high) => low === null ? undefined : { type: "data", symmetric: false, array: [high - v], arrayminus: [v - low], color: fade(look.colour, 0.75), thickness: 1.4, width: 4 };
      traces.push({ x: [p.x], y: [p.y], type: "scatter", mode: "markers+text", text: [p.name], cliponaxis: false,
        textposition: p.pareto ? "bottom left" : "top right", textfont: { size: 12, color: karat.colour("--ink") },
        error_y: error(p.y, p.low, p.high), error_x: error(p.x, p.xlow, p.xhigh),
        marker: { size: 12, symbol: look.symbol, color: look.colour, line: { width: p.pareto ? 2.5 : 0.5, color: p.pareto ? karat.colour("--gold-fill") : karat.colour("--surface") } },
        hovertemplate: `${p.hover}<extra></extra>` });
    });
    traces.forEach(() => series.push(0));
    return { traces, series, layout: layout({ height: 460, xaxis: axis(spec.x, true, { range: view.xrange, ...logTicks(view.xrange.map((v) => 10 ** v)) }),
      yaxis: axis(view.y, true, { range: view.yrange, ...logTicks(view.yrange.map((v) => 10 ** v)) }) }) };
  };

  const build = (spec, element) => spec.kind === "parity" ? parity(spec, element.clientWidth)
    : spec.kind === "front" ? front(spec, state.get(spec.id)?.choice || 0) : plain(spec);

  const legend = (spec, element) => {
    const holder = element.parentElement.querySelector(".legend");
    if (!holder || !spec.series) return;
    const hidden = state.get(spec.id).hidden;
    holder.replaceChildren(...spec.series.map((s, i) => {
      const look = style(s.who), button = document.createElement("button"), ns = "http://www.w3.org/2000/svg";
      const svg = document.createElementNS(ns, "svg"), line = document.createElementNS(ns, "line");
      svg.setAttribute("width", "20"); svg.setAttribute("height", "8"); svg.setAttribute("aria-hidden", "true");
      Object.entries({ x1: 1, y1: 4, x2: 19, y2: 4, stroke: look.colour, "stroke-width": spec.kind === "bars" ? 8 : 3,
        "stroke-dasharray": spec.kind === "bars" ? "" : look.reference ? "5 3" : ["", "5 3", "2 3", "6 2 2 2"][(s.dash || 0) % 4] })
        .forEach(([k, v]) => line.setAttribute(k, String(v)));
      svg.append(line);
      button.type = "button"; button.setAttribute("aria-pressed", String(!hidden.has(i)));
      button.append(svg, document.createTextNode(s.name));
      button.addEventListener("click", () => {
        if (!hidden.delete(i)) hidden.add(i);
        render(spec, element);
      });
      return button;
    }));
  };

  const render = (spec, element) => {
    const built = build(spec, element), hidden = state.get(spec.id).hidden;
    built.traces.forEach((t, i) => { t.visible = !hidden.has(built.series[i]) || spec.kind === "parity" || spec.kind === "front"; });
    state.get(spec.id).done = Plotly.react(element, built.traces, built.layout, config)
      .then(() => { element.dataset.drawn = "1"; });
    legend(spec, element);
    return state.get(spec.id).done;
  };
  const draw = (element) => {
    const spec = specs.get(element.id);
    state.set(spec.id, { hidden: new Set(), choice: 0, done: null });
    const select = element.parentElement.querySelector("select");
    if (select) select.addEventListener("change", () => { state.get(spec.id).choice = Number(select.value); render(spec, element); });
    render(spec, element);
  };

  const swatches = () => document.querySelectorAll(".swatch[data-who]").forEach((dot) => {
    const look = style(dot.dataset.who);
    dot.classList.toggle("ref", look.reference && dot.dataset.who in people);
    dot.style.background = look.reference ? "" : dot.dataset.who in people ? look.colour : "transparent";
  });
  swatches();
  karat.onTheme.push(swatches);

  const elements = Array.from(document.querySelectorAll(".plot"));
  const rest = karat.lazy(elements, draw);
  karat.drawAll = () => { rest(); return Promise.all(Array.from(state.values(), (s) => s.done)); };
  karat.onTheme.push(() => elements.filter((e) => state.has(e.id)).forEach((e) => render(specs.get(e.id), e)));
  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => elements.filter((e) => state.has(e.id) && specs.get(e.id).kind === "parity")
      .forEach((e) => render(specs.get(e.id), e)), 200);
  });
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((d) => { d.open = true; }); karat.drawAll(); });
})();
