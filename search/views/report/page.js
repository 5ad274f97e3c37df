// Draws the charts from the data that the page carries, and sorts and filters the tables of trials.
"use strict";
(() => {
const studies = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const CATEGORIES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"];
const LADDER = ["#5e4fa2", "#3a7eb8", "#2a9d8f", "#6cb65a", "#c3b33a", "#e08a2e"];  // low to high, on white and on black
const BOTTOM = -0.14;  // of parallel coordinates: where a setting is that a trial does not have
const PAPER = {wide: 660, small: 320};  // pixels of a chart on paper
let printing = false;

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// plotly takes tags in texts for markup; names of settings and recipes are only text.
const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");
const finite = value => typeof value === "number";
const better = (study, a, b) => study.mode === "max" ? a > b : a < b;
const unique = list => [...new Set(list)];

const axis = (title, more = {}) => ({
  title: {text: plain(title), standoff: 6}, gridcolor: css("--line"), zeroline: false, linecolor: css("--line"),
  automargin: true, exponentformat: "e", ...more,
});

function layout(more = {}) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 48, r: 12, t: 12, b: 40},
    font: {color: css("--ink"), family: "system-ui, sans-serif", size: 12}, hovermode: "closest", showlegend: false,
    hoverlabel: {bgcolor: css("--card"), bordercolor: css("--line"), font: {color: css("--ink")}},
    legend: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom"},
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", ...more,
  };
}

// The best and the worst value that are shown: all, unless the worst tenth would flatten the rest.
function ends(study, values) {
  const sorted = values.filter(finite).sort((a, b) => better(study, a, b) ? -1 : 1);
  if (!sorted.length) return [1, 0];
  const best = sorted[0], worst = sorted.at(-1), most = sorted[Math.floor(0.9 * (sorted.length - 1))];
  const far = Math.abs(worst - best) > 5 * Math.abs(most - best) && most !== best;
  return [best, far ? most + 0.5 * (most - best) : worst];
}

function span(study, values) {
  const [best, worst] = ends(study, values), pad = 0.06 * (Math.abs(worst - best) || Math.abs(best) || 1);
  return best > worst ? [worst - pad, best + pad] : [best - pad, worst + pad];
}

const place = (setting, value) => setting.log
  ? Math.log(value / setting.low) / Math.log(setting.high / setting.low)
  : (value - setting.low) / (setting.high - setting.low);
const at = (setting, share) => setting.log
  ? setting.low * (setting.high / setting.low) ** share : setting.low + share * (setting.high - setting.low);
const digits = value => Number(value.toPrecision(2)).toString();
const bin = (setting, value, bins) => Math.min(bins - 1, Math.max(0, Math.floor(place(setting, value) * bins)));

// What became of a trial, in words, and how far down it stands in the legend.
function outcome(study, i) {
  const status = study.status[i], epoch = study.epoch[i];
  if (status === "completed") return ["trained to the end", 0];
  if (status === "stopped" || status === "paused") return [`${status} at epoch ${epoch}`, 1e6 - epoch];
  return [status, 2e6 + status.length];
}

// By trial: the name of its group, and by name its color, in the order of the legend.
function groups(study, choice) {
  const colors = new Map(), count = study.number.length;
  let names;
  if (choice === "") {
    const found = study.number.map((_, i) => outcome(study, i));
    names = found.map(([name]) => name);
    const order = unique(found.sort((a, b) => a[1] - b[1]).map(([name]) => name));
    const rungs = order.filter(name => / at epoch /.test(name));
    const own = {"trained to the end": css("--accent"), diverged: "#aa3377", failed: css("--bad"), running: "#228833"};
    order.forEach(name => colors.set(name, own[name] ?? LADDER.slice().reverse()[rungs.indexOf(name) % LADDER.length] ?? css("--faint")));
    return {names, colors};
  }
  const setting = study.settings[choice], values = study.values[choice];
  if (setting.options) {
    names = values.map(value => value === null ? "not set" : value);
    unique([...setting.options, ...names.filter(name => name !== "not set")])
      .forEach((option, i) => colors.set(option, CATEGORIES[i % CATEGORIES.length]));
  } else {
    const bins = LADDER.length;
    const label = b => `${digits(at(setting, b / bins))} to ${digits(at(setting, (b + 1) / bins))}`;
    names = values.map(value => value === null ? "not set" : label(bin(setting, value, bins)));
    LADDER.forEach((color, b) => colors.set(label(b), color));
  }
  colors.set("not set", css("--faint"));
  return {names, colors, count};
}

function curve(study, i) {
  const [epochs, values] = study.curves[i];
  return [epochs.length ? epochs : values.map((_, k) => k + 1), values];
}

function curves(div, study) {
  const choice = document.querySelector(`[data-color="${div.dataset.study}"]`).value;
  const {names, colors} = groups(study, choice);
  const few = study.number.length <= 60, traces = new Map();
  study.number.forEach((number, i) => {
    const [epochs, values] = curve(study, i);
    if (!values.length) return;
    const name = names[i];
    if (!traces.has(name)) traces.set(name, {
      x: [], y: [], customdata: [], mode: "lines+markers", name: plain(name), line: {width: few ? 1.6 : 1, color: colors.get(name)},
      marker: {size: [], color: colors.get(name)}, opacity: few ? 0.9 : 0.6,
      hovertemplate: `trial %{customdata}, epoch %{x}: %{y:.4f}<extra>${plain(name)}</extra>`,
    });
    const trace = traces.get(name);  // one for all trials of a group, with gaps between them: a thousand would be slow
    trace.x.push(...epochs, null);
    trace.y.push(...values, null);
    trace.customdata.push(...values.map(() => number), null);
    trace.marker.size.push(...values.map(() => values.length === 1 ? 6 : few ? 4 : 0), 0);
  });
  const shown = [...colors.keys()].map(name => traces.get(name)).filter(Boolean);
  const best = study.number.indexOf(study.best);
  if (best >= 0) {
    const [x, y] = curve(study, best);
    shown.push({x, y, mode: "lines+markers", name: `best: trial ${study.best}`, line: {width: 4, color: css("--best")},
      marker: {size: 6}, hovertemplate: `trial ${study.best}, epoch %{x}: %{y:.4f}<extra>the best</extra>`});
  }
  const line = x => ({type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: {dash: "dot", width: 1, color: css("--faint")}});
  return [shown, layout({
    showlegend: true, shapes: study.rungs.map(line), xaxis: axis("epoch", {rangemode: "tozero"}),
    yaxis: axis(study.metric, {range: span(study, study.curves.flatMap(([, values]) => values))}),
  })];
}

// Where a value stands on its axis of parallel coordinates, 0 to 1.
function height(setting, value) {
  if (value === null) return BOTTOM;
  if (!setting.options) return place(setting, value);
  const index = setting.options.indexOf(value);
  return index < 0 ? BOTTOM : setting.options.length > 1 ? index / (setting.options.length - 1) : 0.5;
}

function parallel(div, study) {
  const judged = study.number.map((_, i) => i).filter(i => finite(study.value[i]) && study.status[i] !== "diverged");
  const whole = judged.filter(i => study.status[i] === "completed")
    .sort((a, b) => better(study, study.value[a], study.value[b]) ? -1 : 1);
  const [most, least] = ends(study, judged.map(i => study.value[i])), top = new Set(whole.slice(0, Math.ceil(judged.length / 10)));
  const best = study.number.indexOf(study.best), axes = study.settings, last = axes.length;
  const good = value => most === least ? 1 : Math.max(-0.05, (value - least) / (most - least));  // up is better
  const lines = (name, chosen, line, opacity) => {
    const x = [], y = [], text = [];
    chosen.forEach(i => {
      axes.forEach((setting, s) => {
        const value = study.values[s][i];
        x.push(s); y.push(height(setting, value)); text.push(plain(`trial ${study.number[i]}: ${setting.label} ${value ?? "not set"}`));
      });
      x.push(last, null); y.push(good(study.value[i]), null);
      text.push(plain(`trial ${study.number[i]}: ${study.metric} ${study.value[i]}`), "");
    });
    return {x, y, text, name, mode: "lines", line, opacity, hoverinfo: "text"};
  };
  const rest = judged.filter(i => !top.has(i) && i !== best), tenth = judged.filter(i => top.has(i) && i !== best);
  const traces = [
    lines("the others", rest, {width: 1, color: css("--faint")}, rest.length > 100 ? 0.25 : 0.6),
    lines("the best tenth", tenth, {width: 1.6, color: css("--accent")}, 0.8),
  ];
  if (best >= 0) traces.push(lines(`best: trial ${study.best}`, [best], {width: 3.5, color: css("--best")}, 1));
  const note = (x, y, text, more = {}) => ({x, y, text, showarrow: false, font: {size: 10}, bgcolor: css("--paper"), borderpad: 1, ...more});
  const notes = [], rules = [];
  [...axes, {label: study.metric}].forEach((setting, x) => {
    const [, path, options] = /^(.*?)(?: (\(.*\)))?$/.exec(setting.label);
    const head = [...path.split(/[._](?=[^._]*$)|\./), options].filter(Boolean).map(plain).join("<br>");
    notes.push(note(x, 1.07, head, {yanchor: "bottom", font: {size: printing ? 7 : 11}}));
    rules.push({type: "line", x0: x, x1: x, y0: x === last ? 0 : BOTTOM, y1: 1, line: {width: 1, color: css("--soft")}});
    if (setting.options) setting.options.forEach(option => notes.push(note(x, height(setting, option), plain(option))));
    else if (x < last) notes.push(note(x, 1, digits(setting.high), {yshift: 7}), note(x, 0, digits(setting.low), {yshift: -7}));
    else notes.push(note(x, 1, digits3(most), {yshift: 7}), note(x, 0, digits3(least), {yshift: -7}));
  });
  div.style.minWidth = printing ? "" : `${Math.max(320, 68 * (last + 1))}px`;
  return [traces, layout({
    showlegend: true, annotations: notes, shapes: rules, margin: {l: 36, r: 36, t: 78, b: 10}, legend: {orientation: "h", x: 0, y: -0.02, yanchor: "top"},
    xaxis: {visible: false, range: [-0.35, last + 0.35], fixedrange: true}, yaxis: {visible: false, range: [BOTTOM - 0.06, 1.08], fixedrange: true},
  })];
}
const digits3 = value => Number(value.toPrecision(3)).toString();

// From end to end of what was searched, and as far as recipes lie outside.
function extent(setting, values, scale) {
  const low = Math.min(scale(setting.low), ...values), high = Math.max(scale(setting.high), ...values);
  return [low - 0.04 * (high - low), high + 0.04 * (high - low)];
}

function isolation(div, study) {
  const setting = study.settings[div.dataset.setting], values = study.values[div.dataset.setting];
  const here = study.number.map((_, i) => i).filter(i => values[i] !== null);
  const fine = here.filter(i => finite(study.value[i]) && study.status[i] !== "diverged");
  const range = span(study, study.value.filter((_, i) => study.status[i] !== "diverged"));
  const edge = study.mode === "max" ? range[0] : range[1];
  const dots = (name, chosen, marker, y = i => study.value[i]) => ({
    x: chosen.map(i => values[i]), y: chosen.map(y), customdata: chosen.map(i => study.number[i]), mode: "markers", name, marker,
    hovertemplate: `trial %{customdata}: %{y:.4f} at %{x}<extra>${name}</extra>`,
  });
  const color = css("--accent"), whole = i => study.status[i] === "completed";
  const traces = [
    dots("stopped", fine.filter(i => !whole(i)), {size: 5, color: "rgba(0,0,0,0)", line: {width: 1, color: css("--faint")}}),
    dots("trained to the end", fine.filter(whole), {size: 6, color, opacity: 0.75}),
    dots("diverged", here.filter(i => study.status[i] === "diverged"), {symbol: "x", size: 6, color: css("--bad"), opacity: 0.7}, () => edge),
  ];
  const bins = Math.min(10, Math.max(4, Math.round(Math.sqrt(fine.length)))), winners = new Map();
  fine.forEach(i => {
    const where = setting.options ? values[i] : bin(setting, values[i], bins);
    if (!winners.has(where) || better(study, study.value[i], study.value[winners.get(where)])) winners.set(where, i);
  });
  const thick = {width: 3, color: css("--best")}, winning = [...winners];
  if (setting.options) traces.push(dots("best with it", winning.map(([, i]) => i), {symbol: "line-ew", size: 26, line: thick}));
  else traces.push({
    x: winning.flatMap(([b]) => [at(setting, b / bins), at(setting, (b + 1) / bins), null]), mode: "lines", line: thick, hoverinfo: "skip",
    y: winning.flatMap(([, i]) => [study.value[i], study.value[i], null]),
  });
  const scale = setting.options
    ? {type: "category", categoryorder: "array", categoryarray: setting.options, range: [-0.5, unique([...setting.options, ...here.map(i => values[i])]).length - 0.5]}
    : setting.log ? {type: "log", dtick: 1, range: extent(setting, here.map(i => Math.log10(values[i])), Math.log10)}
    : {nticks: 6, range: extent(setting, here.map(i => values[i]), value => value)};
  return [traces, layout({xaxis: axis(setting.label, scale), yaxis: axis(study.metric, {range, nticks: 6})})];
}

// The trials that ran to their end, by when, and the best until then.
function history(study, x) {
  const ended = study.number.map((_, i) => i).filter(i => study.hours[i] !== null).sort((a, b) => study.hours[a] - study.hours[b]);
  const found = {x: [], y: [], best: [], number: []};
  ended.forEach((i, order) => {
    if (study.status[i] !== "completed" || !finite(study.value[i])) return;
    const before = found.best.at(-1);
    found.x.push(x === "hours" ? study.hours[i] : order + 1);
    found.y.push(study.value[i]);
    found.best.push(before === undefined || better(study, study.value[i], before) ? study.value[i] : before);
    found.number.push(study.number[i]);
  });
  return found;
}

function progress(div, study) {
  const found = history(study, "hours"), minutes = found.x.length && found.x.at(-1) < 2;
  if (minutes) found.x = found.x.map(hours => hours * 60);
  const unit = minutes ? "minutes" : "hours";
  return [[
    {x: found.x, y: found.y, customdata: found.number, mode: "markers", marker: {size: 6, color: css("--accent"), opacity: 0.6},
      hovertemplate: "trial %{customdata}: %{y:.4f} after %{x:.2f} " + unit + "<extra></extra>"},
    {x: found.x, y: found.best, mode: "lines", line: {shape: "hv", width: 2, color: css("--best")}, hoverinfo: "skip"},
  ], layout({xaxis: axis(unit, {rangemode: "tozero"}), yaxis: axis(study.metric, {range: span(study, found.y)})})];
}

function side() {
  const same = studies.filter(study => study.metric === studies[0].metric);
  const traces = same.map((study, i) => {
    const found = history(study, "trials");
    return {x: found.x, y: found.best, name: plain(study.study), mode: "lines+markers", marker: {size: 5},
      line: {shape: "hv", width: 2, color: CATEGORIES[i % CATEGORIES.length]}};
  });
  return [traces, layout({showlegend: true, xaxis: axis("trials that have ended", {rangemode: "tozero"}), yaxis: axis(studies[0].metric)})];
}

function waterfall(div, study) {
  const [names, points, measure] = [0, 1, 2].map(k => study.steps.map(step => step[k]));
  const levels = [];
  points.forEach((value, i) => levels.push(measure[i] === "relative" ? levels[i - 1] + value : value ?? levels[i - 1]));
  const [low, high] = [Math.min(...levels), Math.max(...levels)], pad = 0.15 * (high - low || Math.abs(high) || 1);
  const color = good => ({marker: {color: css(good ? "--good" : "--bad")}});
  const text = points.map((value, i) => measure[i] === "relative" ? (value < 0 ? "" : "+") + digits3(value) : digits3(levels[i]));
  return [[{
    type: "waterfall", x: names.map((_, i) => i), y: points.map(value => value ?? 0), measure, text, textposition: "outside", cliponaxis: false,
    increasing: color(study.mode === "max"), decreasing: color(study.mode !== "max"), totals: {marker: {color: css("--accent")}},
    connector: {line: {color: css("--faint"), width: 1}}, hovertext: names.map(plain), hoverinfo: "text+y",
  }], layout({
    xaxis: axis("", {tickvals: names.map((_, i) => i), ticktext: names.map(plain)}), yaxis: axis(study.metric, {range: [low - pad, high + pad]}),
  })];
}

const KINDS = {curves, parallel, isolation, progress, side, waterfall};
const plots = [...document.querySelectorAll(".plot")];

function draw(div) {
  const [traces, made] = KINDS[div.dataset.kind](div, studies[div.dataset.study]);
  if (printing) Object.assign(made, {width: div.classList.contains("small") ? PAPER.small : PAPER.wide, height: div.clientHeight});
  const config = {responsive: !printing, displayModeBar: false};  // its buttons could send data to a service
  return Plotly.react(div, traces, made, config);
}

// One chart after another, so that the page can be read while they come; those in a closed study wait.
const waiting = () => plots.find(div => !div.querySelector(".main-svg") && !div.closest("details.study:not([open])"));
function drawNext() {
  const div = waiting();
  if (div) draw(div).then(() => setTimeout(drawNext));
}
const redraw = () => plots.filter(div => div.querySelector(".main-svg")).forEach(draw);

document.querySelectorAll("details.study").forEach(details => details.addEventListener("toggle", drawNext));
document.querySelectorAll("[data-opens]").forEach(link => link.addEventListener("click", () => {
  document.getElementById(link.dataset.opens).open = true;
}));
document.querySelectorAll("[data-color]").forEach(select => select.addEventListener("change", () =>
  draw(plots.find(div => div.dataset.kind === "curves" && div.dataset.study === select.dataset.color))));
dark.addEventListener("change", redraw);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(details => { details.open = true; });
  printing = true;
  plots.forEach(draw);
});
addEventListener("afterprint", () => { printing = false; plots.forEach(draw); });

const number = text => text !== "" && !Number.isNaN(Number(text)) ? Number(text) : null;
function compare(a, b) {
  const [x, y] = [number(a), number(b)];
  if (x !== null && y !== null) return x - y;
  return x !== null ? -1 : y !== null ? 1 : a.localeCompare(b);
}

document.querySelectorAll("table.trials").forEach(table => {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", text = row => row.cells[column].textContent;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => {
      if (!text(a) || !text(b)) return (text(a) ? 0 : 1) - (text(b) ? 0 : 1);  // empty ones last, either way
      return (down ? -1 : 1) * compare(text(a), text(b));
    });
    body.append(...rows);
  }));
  const index = table.dataset.table, shown = document.querySelector(`[data-shown="${index}"]`);
  document.querySelector(`[data-filter="${index}"]`).addEventListener("input", event => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach(row => { row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word)); });
    const left = rows.filter(row => !row.hidden).length;
    shown.textContent = left === rows.length ? `${left} trials` : `${left} of ${rows.length} trials`;
  });
});

drawNext();
})();
