"use strict";
// What a reader chooses on the page. Words of records only ever become text nodes.
(async () => {
  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }
  const [text, plotly] = await Promise.all([unpacked("data"), unpacked("plotly")]);
  const script = document.createElement("script");
  script.textContent = plotly;
  document.head.append(script);
  const data = JSON.parse(text);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const KEYS = ["workload", "dtype", "precision"];
  const unique = (values) => [...new Set(values)];
  const make = (tag, words, name) => {
    const found = document.createElement(tag);
    if (words !== undefined && words !== null) found.textContent = words;
    if (name) found.className = name;
    return found;
  };
  // To Plotly, < begins a tag, %{ a template and $ what is TeX; as numbers, they are text.
  const asText = (words) => words.replace(/[&<>%$]/g, (sign) => `&#${sign.charCodeAt(0)};`);

  // --- what is chosen ---------------------------------------------------------------------------
  const known = Object.fromEntries(KEYS.map((key) => [key, unique(data.rows.map((row) => row[key]))]));
  const MOST_ANSWERS = 6; // are open; the others can be opened
  const usual = { dtype: "float32", precision: "highest" };
  const chosen = {};
  for (const key of KEYS) {
    chosen[key] = new Set(known[key].includes(usual[key]) ? [usual[key]] : known[key]);
  }
  const sameCase = (one) => KEYS.every((key) => one[key] === undefined || chosen[key].has(one[key]));
  if (!data.rows.some(sameCase)) for (const key of KEYS) chosen[key] = new Set(known[key]);
  let metric = data.metrics.length ? data.metrics[0][0] : "latency";
  let order = { column: null, down: false };

  function drawFilters() {
    const groups = $("groups");
    groups.replaceChildren();
    for (const key of KEYS) {
      if (known[key].length < 2) continue;
      const set = make("fieldset");
      set.append(make("legend", key));
      for (const value of known[key]) {
        const label = make("label");
        const box = make("input");
        box.type = "checkbox";
        box.name = key;
        box.value = value;
        box.checked = chosen[key].has(value);
        box.addEventListener("change", () => {
          if (box.checked) chosen[key].add(value);
          else chosen[key].delete(value);
          show();
        });
        label.append(box, value);
        set.append(label);
      }
      groups.append(set);
    }
  }
  $("everything").addEventListener("click", () => {
    for (const key of KEYS) chosen[key] = new Set(known[key]);
    $("find").value = "";
    drawFilters();
    show();
  });
  for (const [name, words] of data.metrics) $("metric").append(new Option(words, name));
  $("metric").addEventListener("change", () => { metric = $("metric").value; show(); });
  $("find").addEventListener("input", showTable);

  // --- answers ----------------------------------------------------------------------------------
  function showAnswers() {
    const place = $("headlines");
    place.replaceChildren();
    const rest = make("details");
    const first = new Set(data.headlines.filter(sameCase).slice(0, MOST_ANSWERS));
    const others = data.headlines.filter((one) => !first.has(one));
    for (const one of data.headlines) {
      const card = make("div", null, "answer");
      card.append(make("h3", one.name), make("p", one.answer));
      if (one.sure) card.append(make("p", one.sure, "sure"));
      if (one.detail) {
        const detail = make("details");
        detail.append(make("summary", "In detail"), make("p", one.detail, "sure"));
        card.append(detail);
      }
      (first.has(one) ? place : rest).append(card);
    }
    if (others.length) {
      rest.prepend(make("summary", `${others.length} more`));
      place.append(rest);
    }
    if (!data.headlines.length) place.append(make("p", "There are no cases.", "empty"));
  }

  // --- figures ----------------------------------------------------------------------------------
  const cards = new Map(); // by figure: its card and plot
  const onScreen = new IntersectionObserver((seen) => {
    for (const one of seen) {
      one.target.visible = one.isIntersecting;
      if (one.isIntersecting && one.target.stale) queue(one.target);
    }
  }, { rootMargin: "600px" });
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const KINDS = new Set(data.metrics.map(([name]) => name));

  function tracesOf(figure) {
    const kept = figure.data.filter((trace) => sameCase(trace.meta));
    const groups = new Set();
    const names = unique(kept.map((trace) => trace.name));
    const plain = unique(kept.map((trace) => trace.meta.short ?? trace.name)).length === names.length;
    const role = (name) => kept.filter((trace) => trace.meta.role === name);
    // Ceilings reach a little beyond the cases that are shown, and beyond their ridges; one of memory ends where the
    // highest one of compute begins.
    const top = Math.max(...role("ceiling").map((trace) => trace.y[0]));
    const ridges = role("memory").map((trace) => (top * trace.x[0]) / trace.y[0]).filter(Number.isFinite);
    const xs = [...role("data").flatMap((trace) => trace.x), ...ridges];
    const span = role("ceiling").length || role("memory").length ? [Math.min(...xs) / 4, Math.max(...xs) * 4] : null;
    return kept.map((trace) => {
      const one = { ...trace };
      if (plain && trace.meta.short) one.name = trace.meta.short;
      if (trace.legendgroup) one.showlegend = !groups.has(trace.legendgroup);
      groups.add(trace.legendgroup);
      if (trace.meta.role === "ceiling") one.x = span;
      if (trace.meta.role === "memory") {
        const rate = trace.y[0] / trace.x[0];
        one.x = [span[0], Number.isFinite(top) ? Math.min(span[1], top / rate) : span[1]];
        one.y = one.x.map((x) => x * rate);
      }
      return one;
    });
  }
  const shown = (figure) => figure.data.some((trace) => trace.meta.role === "data" && sameCase(trace.meta));

  function layoutOf(figure, changes) {
    const ink = colour("--ink"), grid = colour("--grid"), edge = colour("--soft"), card = colour("--card");
    const axis = { gridcolor: grid, linecolor: edge, tickcolor: edge, zerolinecolor: edge, showline: true };
    const layout = structuredClone({ ...data.layout, ...figure.layout });
    layout.font = { ...layout.font, color: ink };
    layout.paper_bgcolor = card;
    layout.plot_bgcolor = card;
    layout.xaxis = { ...layout.xaxis, ...axis };
    layout.yaxis = { ...layout.yaxis, ...axis };
    layout.hoverlabel = { bgcolor: card, bordercolor: edge, font: { color: ink, size: 12 }, align: "left" };
    layout.legend = { ...layout.legend, bgcolor: "rgba(0,0,0,0)" };
    return { ...layout, ...changes };
  }
  const CONFIG = {
    displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: "reset",
  };

  const SUFFIXES = { speedup: "x", energy: "J", roofline: "FLOP/s", cost: "" };
  // Where the filters leave nearly equal values, ticks a decade apart may all be outside.
  function ticksOf(figure, traces, axis) {
    const ys = traces.filter((trace) => trace.meta.role === "data").flatMap((trace) => trace.y);
    if (axis.type !== "log" || axis.range || Math.max(...ys) > 2 * Math.min(...ys)) return {};
    const tickformat = ["speedup", "cost"].includes(figure.kind) ? "~g" : "~s"; // no one counts in milli-times
    return { tickvals: null, ticktext: null, tickformat, ticksuffix: SUFFIXES[figure.kind] ?? "s", nticks: 5 };
  }
  function draw(plot) {
    plot.stale = false;
    const figure = plot.figure;
    const traces = tracesOf(figure);
    const entries = traces.filter((trace) => trace.showlegend !== false).length;
    const inRow = Math.max(1, Math.floor(plot.clientWidth / 190));
    const legend = 20 * Math.max(0, Math.ceil(entries / inRow) - 2); // a plot shrinks for no legend
    const height = (figure.layout.height || (figure.kind === "roofline" ? 400 : 330)) + legend;
    const layout = layoutOf(figure, { title: undefined, autosize: true, height });
    layout.margin = { l: 50, r: 12, t: 8, b: 40 };
    layout.legend.maxheight = 0.9;
    layout.yaxis = { ...layout.yaxis, ...ticksOf(figure, traces, layout.yaxis) };
    plot.style.height = `${layout.height}px`;
    window.Plotly.react(plot, traces, layout, CONFIG);
  }
  function refresh(plot) {
    plot.stale = true;
    if (plot.visible) queue(plot);
  }
  // One figure a task: what was clicked answers at once, and figures follow.
  const waiting = new Set();
  const later = (work) => requestAnimationFrame(() => setTimeout(work));
  function queue(plot) {
    if (!waiting.size) later(drawNext);
    waiting.add(plot);
  }
  function drawNext() {
    const [plot] = waiting;
    if (plot.stale && plot.visible && plot.isConnected) draw(plot);
    waiting.delete(plot);
    if (waiting.size) later(drawNext);
  }
  function cardOf(figure) {
    if (cards.has(figure)) return cards.get(figure);
    const card = make("div", null, "card");
    const head = make("div", null, "head");
    head.append(make("h3", figure.kind === "roofline" ? figure.title : figure.name.slice(figure.name.indexOf("/") + 1)));
    const plot = make("div", null, "plot");
    plot.figure = figure;
    for (const format of ["png", "svg"]) {
      const button = make("button", format.toUpperCase());
      button.type = "button";
      button.title = `Save this figure as ${format.toUpperCase()}`;
      button.setAttribute("aria-label", `${button.title}: ${figure.title}`);
      button.addEventListener("click", () => save(figure, format));
      head.append(button);
    }
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", figure.title);
    card.append(head, plot);
    if (figure.note) card.append(make("p", figure.note, "why"));
    const found = { card, plot };
    cards.set(figure, found);
    onScreen.observe(plot);
    return found;
  }
  function image(figure, format, { scale = 2, ...given } = {}) {
    const size = { width: 860, height: figure.layout.height || 480, ...given };
    const title = { text: asText(figure.title), x: 0.01, xanchor: "left", y: 0.98, yanchor: "top", font: { size: 16 } };
    const layout = layoutOf(figure, { ...size, title, autosize: false });
    layout.margin = { l: 64, r: 20, t: 88, b: 52 };
    return [{ data: tracesOf(figure), layout }, { format, scale: format === "png" ? scale : 1, ...size }];
  }
  function save(figure, format) {
    const [drawn, options] = image(figure, format);
    const filename = figure.name.replace(/[^A-Za-z0-9_.-]+/g, "-");
    return window.Plotly.downloadImage(drawn, { ...options, filename });
  }

  function showFigures() {
    for (const section of document.querySelectorAll("section[data-kind]")) {
      const kind = section.dataset.kind;
      if (kind === "samples") continue;
      const grid = section.querySelector(".grid");
      const all = data.figures.filter((one) => (kind === "time" ? KINDS.has(one.kind) : one.kind === kind));
      const wanted = all.filter((one) => (kind !== "time" || one.kind === metric) && shown(one));
      fill(grid, wanted, all.length ? `Left out by the filters: ${unique(all.map((one) => one.workload || one.title)).join(", ")}.` : null);
      if (kind === "time") section.querySelector("h2").textContent = `Time against size, ${$("metric").selectedOptions[0]?.text || "nothing measured"}`;
      if (!all.length) {
        const reason = data.absent[kind];
        grid.replaceChildren(make("p", `Not shown: ${reason || "nothing was measured"}.`, "empty"));
      }
    }
  }
  function fill(grid, wanted, empty) {
    const found = wanted.map(cardOf);
    grid.replaceChildren(...found.map((one) => one.card));
    for (const { plot } of found) refresh(plot);
    if (!wanted.length && empty) grid.append(make("p", empty, "empty"));
  }

  // --- samples ----------------------------------------------------------------------------------
  const arm = $("arm");
  function showSamples() {
    const before = arm.value;
    arm.replaceChildren();
    data.samples.forEach((one, index) => {
      if (shown(one)) arm.append(new Option(one.title, String(index)));
    });
    if ([...arm.options].some((option) => option.value === before)) arm.value = before;
    showArm();
  }
  function showArm() {
    const grid = document.querySelector('section[data-kind="samples"] .grid');
    arm.parentElement.hidden = !arm.options.length;
    if (!data.samples.length) {
      grid.replaceChildren(make("p", `Not shown: ${data.absent.samples}.`, "empty"));
      return;
    }
    fill(grid, arm.options.length ? [data.samples[Number(arm.value)]] : [], "Left out by the filters.");
  }
  arm.addEventListener("change", showArm);

  // --- the table --------------------------------------------------------------------------------
  const NONE = [null, "–"];
  const onDevice = (device) => (row) => {
    const side = row[device];
    if (side === null) return NONE;
    if (typeof side === "string") return [null, side];
    return side[metric] || NONE;
  };
  const columns = [
    { title: "case", cell: (row) => [row.name, row.name], left: true },
    ...(data.rows.some((row) => row.machines) ? [{ title: "machines", cell: (row) => [row.machines, row.machines || ""], left: true }] : []),
    { title: "CPU", cell: onDevice("cpu"), name: "cpu" },
    { title: "GPU", cell: onDevice("gpu"), name: "gpu" },
    { title: "speedup [95%]", cell: (row) => row.speedup[metric] || NONE },
    { title: "faster", cell: (row) => [row.faster[metric] || null, row.faster[metric] || "–"], left: true, verdict: true },
    { title: "end to end", cell: (row) => row.speedup.end_to_end || NONE },
    { title: "break even", cell: (row) => row.break_even },
    { title: "CPU ceiling", cell: (row) => row.ceiling[0] },
    { title: "GPU ceiling", cell: (row) => row.ceiling[1] },
    { title: "error", cell: (row) => row.error },
    ...(data.prices ? [
      { title: "CPU cost of 10⁶", cell: (row) => row.cost[0] },
      { title: "GPU cost of 10⁶", cell: (row) => row.cost[1] },
      { title: "cheaper", cell: (row) => row.cost[2] },
    ] : []),
  ];
  function head() {
    const line = make("tr");
    columns.forEach((column, index) => {
      const cell = make("th", null, column.left ? "left" : "");
      cell.scope = "col";
      const sorted = order.column === index;
      const button = make("button", column.title + (sorted ? (order.down ? " ▼" : " ▲") : ""));
      button.type = "button";
      if (sorted) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      button.addEventListener("click", () => {
        order = { column: index, down: sorted ? !order.down : false };
        showTable();
        document.querySelectorAll("#cases thead button")[index].focus();
      });
      cell.append(button);
      line.append(cell);
    });
    document.querySelector("#cases thead").replaceChildren(line);
  }
  function sorted(rows) {
    if (order.column === null) return rows;
    const value = (row) => (order.column === 0 ? row : columns[order.column].cell(row)[0]);
    const sign = order.down ? -1 : 1;
    return [...rows].sort((one, other) => {
      const a = value(one), b = value(other);
      if (order.column === 0) return sign * (a.workload.localeCompare(b.workload) || a.size - b.size || a.name.localeCompare(b.name));
      if (a === null || b === null) return (a === null) - (b === null); // the unknown last, either way
      return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
    });
  }
  function showTable() {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = data.rows.filter((row) => {
      const all = `${row.name} ${row.dtype} ${row.precision} ${row.machines || ""}`.toLowerCase();
      return sameCase(row) && words.every((word) => all.includes(word));
    });
    head();
    document.querySelector("#cases tbody").replaceChildren(...sorted(rows).map(line));
    $("count").textContent = `${rows.length} of ${data.rows.length} cases`;
    $("everything").hidden = rows.length === data.rows.length;
  }
  function line(row) {
    const found = make("tr", null, "row");
    columns.forEach((column, index) => {
      const words = column.cell(row)[1];
      const cell = make("td", null, column.left ? "left" : "");
      if (index === 0) {
        const button = make("button", `▸ ${words}`, "open");
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.addEventListener("click", () => toggle(found, row, button));
        cell.append(button);
      } else {
        const failed = words === "failed" || words === "refused";
        cell.append(make("span", words, failed ? "bad" : column.verdict && words !== "–" ? `tag ${words}` : ""));
      }
      found.append(cell);
    });
    return found;
  }
  function toggle(found, row, button) {
    const open = found.nextSibling && found.nextSibling.classList.contains("more");
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = `${open ? "▸" : "▾"} ${row.name}`;
    if (open) return void found.nextSibling.remove();
    const more = make("tr", null, "more");
    const cell = make("td");
    cell.colSpan = columns.length;
    if (row.unmatched) cell.append(make("p", `† ${row.unmatched}`));
    const sides = make("div", null, "sides");
    sides.append(...row.records.map((index) => side(data.records[index], index)));
    cell.append(sides);
    more.append(cell);
    found.after(more);
  }
  const list = (pairs) => {
    const found = make("dl");
    for (const [name, value] of pairs) found.append(make("dt", name), make("dd", value === null ? "–" : String(value)));
    return found;
  };
  function side(record, index) {
    const found = make("div", null, "side");
    const cores = record.cores === null ? "" : `, ${record.cores} cores`;
    const title = make("h4");
    title.append(make("span", record.device.toUpperCase(), record.device), ` ${record.kind || ""}${cores}`);
    found.append(title);
    const part = (name, ...what) => found.append(make("h5", name), ...what);
    if (record.error) {
      const [type, message, hint] = record.error;
      found.append(make("p", `${record.status}: ${type}: ${message}${hint ? ` (${hint})` : ""}`, "bad"));
    }
    if (record.again) part("command that measures it again", make("pre", record.again));
    part("measured by", make("pre", data.shared[record.command]));
    if (record.timings.length) {
      const table = make("table");
      const top = make("tr");
      for (const name of ["", "median [95%]", "min", "p95", "samples", "passes", "converged"]) top.append(make("th", name));
      table.append(top);
      for (const [name, median, least, p95, n, passes, over, converged] of record.timings) {
        const one = make("tr");
        const told = median + (over === "rounds" ? " within one process" : "");
        for (const words of [name, told, least, p95, n, passes, converged ? "yes" : "no"]) one.append(make("td", words));
        table.append(one);
      }
      part("timings", table);
    }
    part("what else", list(record.facts));
    if (record.warnings.length) {
      const flags = make("details");
      flags.open = record.warnings.length <= 6;
      flags.append(make("summary", `${record.warnings.length} flags: look twice`));
      flags.append(list(record.warnings.map(([name, of, message]) => [`${name} (${of})`, message])));
      found.append(flags);
    }
    const sample = data.samples.findIndex((one) => one.record === index);
    if (sample >= 0) {
      const button = make("button", "Show its samples");
      button.type = "button";
      button.addEventListener("click", () => {
        arm.value = String(sample);
        showArm();
        arm.focus();
        document.querySelector('section[data-kind="samples"]').scrollIntoView();
      });
      found.append(button);
    }
    const folded = make("details");
    folded.append(make("summary", "environment, settings, checks, what is absent"));
    const inside = (name, block) => { if (block && Object.keys(block).length) folded.append(make("h5", name), list(Object.entries(block))); };
    inside("environment", data.shared[record.environment]);
    inside("flags that change its speed", data.shared[record.flags]);
    inside("invariants", data.shared[record.invariants]);
    inside("absent, and why", data.shared[record.absent]);
    folded.append(make("h5", "record"), list([["case", record.case], ["seed", record.seed], ["case_id", record.ids[0]], ["arm_id", record.ids[1]], ["sweep_id", record.ids[2]], ["started at", record.started_at], ["jaxaccel", record.version]]));
    found.append(folded);
    return found;
  }

  // --- light and dark ---------------------------------------------------------------------------
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  function paint() {
    root.classList.toggle("dark", dark);
    $("theme").textContent = dark ? "Light" : "Dark";
    $("theme").setAttribute("aria-pressed", String(dark));
    for (const { plot } of cards.values()) if (plot.isConnected) refresh(plot);
  }
  $("theme").addEventListener("click", () => { dark = !dark; paint(); });

  // --- all of it --------------------------------------------------------------------------------
  function show() {
    showAnswers();
    showFigures();
    showSamples();
    showTable();
  }
  for (const words of data.devices) {
    const [device, ...rest] = words.split(":");
    const one = make("span");
    one.append(make("b", device.toUpperCase(), device), rest.join(":"));
    $("devices").append(one);
  }
  for (const words of data.notes) $("notes").append(make("p", words, "note"));
  const legend = [
    "Speedup: CPU time / GPU time of the chosen metric; above 1x the GPU is faster. End to end: with each call's inputs from the host and its output back to it.",
    `Faster: a verdict that allows for all ${data.among} cases of the table together, which is stricter than the sentences at the top: those allow for the sizes of one line. ?: not sure.`,
    "Break even: calls on data brought in once until the GPU has made up for the transfers. Ceilings: share of the best measured rate. !: look twice (see the record's flags). †: the two sides did not compute at one precision. ‡: their outputs differ.",
    ...(data.prices ? [data.prices] : []),
  ];
  for (const words of legend) $("legend").append(make("p", words));
  $("foot").textContent = `Written by jaxaccel ${data.version}. Everything on this page is in this file; samples are thinned for drawing, never in the records.`;
  document.title = `jaxaccel: ${known.workload.join(", ")}`;
  root.classList.toggle("dark", dark);
  paint();
  drawFilters();
  show();
  window.jaxaccel = { data, image, figure: (name) => data.figures.find((one) => one.name === name) };
})().catch((error) => {
  const trouble = document.getElementById("trouble");
  trouble.textContent = `This page could not be shown (${error}): it needs a browser of 2023 or later.`;
  trouble.hidden = false;
});
