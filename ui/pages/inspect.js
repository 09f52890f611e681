"use strict";
// Text from the model and the user is inserted as text nodes only.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const points = data.texts.map((text) => Array.from(text)); // positions are code points
const slice = (text, start, end) => points[text].slice(start, end).join("");
const dark = matchMedia("(prefers-color-scheme: dark)");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function shown(token) {
  // White space made visible.
  return token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length)) || "∅";
}

const percent = (number) => (100 * number).toFixed(number < 0.1 ? 1 : 0) + " %";
const color = (name, strength) => `rgba(${getComputedStyle(document.documentElement).getPropertyValue(name)}, ${strength})`;
const signed = (number) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(3);

function bars(element, rows) {
  // rows: [name, value as text, length from -1 to 1]
  element.replaceChildren(...rows.flatMap(([name, value, length]) => {
    const bar = make("i", { className: length < 0 ? "against" : "" });
    bar.style.width = 100 * Math.abs(length) + "%";
    return [make("span", { title: name }, name), make("span", {}, value), make("span", {}, bar)];
  }));
}

function choices(element, names, choose) {
  const buttons = names.map((name, i) => make("button", { type: "button", onclick: () => pick(i) }, name));
  function pick(i) {
    buttons.forEach((button, j) => button.setAttribute("aria-pressed", i === j));
    choose(i);
  }
  element.replaceChildren(...buttons);
  pick(0);
}

// Scales a canvas to the resolution of the screen; its context draws in CSS pixels.
function prepare(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}

// Header.

find("model").textContent = data.model;
find("facts").textContent = data.facts;
find("answer").textContent = data.answer;
if (data.unread) {
  find("unread").hidden = false;
  find("unread").textContent = data.unread;
}

// Attributions.

const METHODS = {
  "integrated gradients": ["Integrated gradients", "The contribution of each word on the path from a blank text to this one. The contributions add up to the difference between the two."],
  "leave-one-out": ["Leave one out", "How much the value falls if the word is removed. A word of the prediction itself is underlined and cannot be removed."],
};

function showAttribution(one) {
  const largest = Math.max(1e-9, ...one.words.map((share) => Math.abs(share ?? 0)));
  const paragraphs = points.map((_, number) => {
    const paragraph = make("div");
    let end = 0;
    data.words.forEach((word, i) => {
      if (word.part !== number) return;
      const share = one.words[i];
      const span = make("span", { title: share === null ? "part of the prediction" : signed(share) }, slice(number, word.start, word.end));
      if (share === null) span.className = "own";
      else span.style.background = color(share < 0 ? "--against" : "--accent", 0.65 * Math.abs(share) / largest);
      paragraph.append(slice(number, end, Math.max(end, word.start)), span);
      end = word.end;
    });
    paragraph.append(make("span", { className: data.unread ? "cut" : "" }, slice(number, end)));
    return paragraph;
  });
  find("words").replaceChildren(...paragraphs);
  const blank = one.blank === null ? "" : `; blank text ${one.blank.toFixed(3)}; error of the sum ${Math.abs(one.gap).toFixed(4)}`;
  find("sums").textContent = `${one.output}: ${one.unit} ${one.value.toFixed(3)}${blank}. Blue words increase it, orange words decrease it.`;
  const ranked = data.words.map((word, i) => [word, one.words[i]]).filter(([, share]) => share !== null);
  ranked.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  bars(find("strongest"), ranked.slice(0, 8).map(([word, share]) =>
    [slice(word.part, word.start, word.end), signed(share), share / largest]));
  find("method-note").textContent = METHODS[one.method][1];
}

function startAttribution() {
  const named = new Set(data.attributions.map((one) => one.output)).size > 1;
  const names = data.attributions.map((one) => (named ? `${one.output}: ${METHODS[one.method][0]}` : METHODS[one.method][0]));
  let current = 0;
  choices(find("methods"), names, (i) => showAttribution(data.attributions[(current = i)]));
  return () => showAttribution(data.attributions[current]);
}

// Attention. The weights of a layer are decompressed at the first use; a byte is 255 times the square root of a weight.

const layers = [];

async function unpack(layer) {
  layers[layer] ??= (async () => {
    const packed = Uint8Array.from(atob(data.attention.layers[layer]), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  })();
  return layers[layer];
}

async function roots(layer, head) {
  // The n x n square roots of a head's weights; with head -1, of the mean weights of all heads.
  const { heads, units } = data.attention;
  const bytes = await unpack(layer);
  const size = units.length ** 2;
  const found = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    if (head >= 0) found[i] = bytes[head * size + i] / 255;
    else {
      let sum = 0;
      for (let h = 0; h < heads; h++) sum += bytes[h * size + i] ** 2;
      found[i] = Math.sqrt(sum / heads) / 255;
    }
  }
  return found;
}

function colorScale(values) {
  // The 99.5th percentile: with the maximum, most weights of a long text would be too pale.
  const sorted = Float32Array.from(values).sort();
  return Math.max(1e-6, sorted[Math.floor(0.995 * (sorted.length - 1))]);
}

function paint(context, values, count, x, y, width) {
  // Draws count x count values as a square image; scaling down averages them.
  const scale = colorScale(values);
  const style = getComputedStyle(document.documentElement);
  const [paper, ink] = ["--paper", "--accent"].map((name) => style.getPropertyValue(name).split(",").map(Number));
  const picture = new ImageData(count, count);
  values.forEach((value, i) => {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = paper[c] + (ink[c] - paper[c]) * Math.min(1, value / scale);
    picture.data[4 * i + 3] = 255;
  });
  const whole = make("canvas", { width: count, height: count });
  whole.getContext("2d").putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = count > width;
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, x, y, width, width);
}

// The ticks of an axis of `length` seconds, as [seconds, position]: as many as leave 40 pixels between any two.
function ticks(length, position) {
  let found = [];
  for (const step of [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600]) {
    found = Array.from({ length: Math.floor(length / step + 1e-6) + 1 }, (_, i) => Number((i * step).toFixed(1)))
      .map((time) => [time, position(time)]);
    if (found.every(([, at], i) => i === 0 || at - found[i - 1][1] >= 40)) break;
  }
  return found;
}

const pitchName = (pitch) => ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"][pitch % 12] + (Math.floor(pitch / 12) - 1);

function startAttention() {
  const { heads, units, figures, causal, piece } = data.attention;
  const count = units.length;
  // In a piece of music, later tokens have more to attend to.
  const first = piece ? count - 1 : Math.min(1, count - 1);
  const state = { layer: data.attention.layers.length - 1, head: -1, token: first, values: null };
  const named = (i) => `“${shown(units[i].text)}”` + (piece ? ` at ${piece.seconds[i].toFixed(2)} s` : "");
  find("direction").textContent = (causal
    ? "Each token attends to itself and to earlier tokens; the triangle above the diagonal is empty."
    : "Each token attends to the whole text.") +
    (data.attention.tokens_a_unit > 1 ? ` ${data.attention.tokens_a_unit} neighbouring tokens are pooled to limit the size of the page.` : "");
  const option = (text, value) => make("option", { value }, text);
  find("layer").append(...data.attention.layers.map((_, i) => option(String(i + 1), i)));
  find("head").append(option("mean of all", -1), ...Array.from({ length: heads }, (_, i) => option(String(i + 1), i)));

  const chips = units.map((unit, i) =>
    make("button", { type: "button", className: unit.special ? "special" : "", onclick: () => change({ token: i }) }, shown(unit.text)));
  find("tokens").append(...chips.flatMap((chip) => [chip, make("wbr")]));

  async function change(changes) {
    Object.assign(state, changes);
    find("layer").value = state.layer;
    find("head").value = state.head;
    if (!state.values || "layer" in changes || "head" in changes) state.values = await roots(state.layer, state.head);
    draw();
  }

  function draw() {
    drawChips();
    if (piece) drawRoll();
    drawMatrix();
    drawLines();
    drawOverview();
    const one = figures[state.layer * heads + state.head];
    find("figures").textContent = state.head < 0 ? `Layer ${state.layer + 1}, mean of ${heads} heads.`
      : `Layer ${state.layer + 1}, head ${state.head + 1}: ${percent(one.to_itself)} to the token itself, ${percent(one.to_previous)} to the previous token, ${percent(one.to_next)} to the next token, ${percent(one.to_special)} to special tokens; mean distance ${one.distance.toFixed(1)} tokens, entropy ${one.entropy.toFixed(1)} bits.`;
  }

  const weight = (i, j) => state.values[i * count + j] ** 2;

  function drawChips() {
    const row = state.values.subarray(state.token * count, (state.token + 1) * count);
    const most = Math.max(...row);
    chips.forEach((chip, j) => {
      chip.style.background = color("--accent", 0.75 * row[j] / most);
      chip.title = (piece ? `${piece.seconds[j].toFixed(2)} s: ` : "") + percent(weight(state.token, j));
      chip.setAttribute("aria-pressed", j === state.token);
    });
    const best = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 3);
    find("picked").textContent = `${named(state.token)} attends to ${best.map((j) => `${named(j)} (${percent(weight(state.token, j))})`).join(", ")}. Click another token:`;
  }

  // The notes of a piece of music over time, below them the other events.
  const roll = find("roll"), noteHelp = find("note").textContent;
  let places = [];
  function drawRoll() {
    const { seconds, notes } = piece;
    const length = Math.max(0.1, ...seconds, ...notes.map((note) => note[2]));
    const low = Math.min(60, ...notes.map((note) => note[0])) - 1, high = Math.max(72, ...notes.map((note) => note[0])) + 1;
    const left = 34, right = 12, line = 7, strip = 14;
    const bottom = (high - low + 1) * line;
    const width = Math.min(16000, Math.max(roll.parentElement.clientWidth, left + right + 24 * length));
    const context = prepare(roll, width, bottom + strip + 24);
    const x = (time) => left + ((width - left - right) * time) / length;
    const ink = getComputedStyle(document.body).color;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = ink;
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--line");
    context.textAlign = "right";
    for (let pitch = 12 * Math.ceil(low / 12); pitch <= high; pitch += 12) {
      const y = (high - pitch + 0.5) * line;
      context.fillText(pitchName(pitch), left - 6, y);
      context.strokeRect(left, Math.round(y + line / 2) + 0.5, width - left - right, 0);
    }
    context.textAlign = "center";
    for (const [time, at] of ticks(length, x)) {
      context.strokeRect(Math.round(at) + 0.5, 0, 0, bottom + strip + 4);
      context.fillText(`${time} s`, at, bottom + strip + 14);
    }
    const inNotes = new Set(notes.flatMap((note) => [note[3], note[4]]));
    places = notes.map(([pitch, start, end, on, off]) => ({
      x: x(start), y: (high - pitch) * line, width: Math.max(3, x(end) - x(start) - 1), height: line, unit: on,
      value: weight(state.token, on) + (off === on ? 0 : weight(state.token, off)),
      says: `${pitchName(pitch)} from ${start.toFixed(2)} to ${end.toFixed(2)} s`, isChosen: state.token === on || state.token === off,
    }));
    units.forEach((unit, i) => inNotes.has(i) || places.push({
      x: x(seconds[i]), y: bottom + 2, width: Math.max(3, x(seconds[i + 1] ?? length) - x(seconds[i]) - 1), height: strip - 4, unit: i,
      value: weight(state.token, i), says: named(i), isChosen: state.token === i,
    }));
    const most = Math.max(1e-6, ...places.map((place) => place.value));
    for (const place of places) {
      context.fillStyle = color("--accent", 0.15 + 0.85 * place.value / most);
      context.fillRect(place.x, place.y, place.width, place.height);
      if (!place.isChosen) continue;
      context.strokeStyle = color("--against", 1);
      context.lineWidth = 2;
      context.strokeRect(place.x, place.y, place.width, place.height);
    }
    context.fillStyle = color("--against", 1);
    context.fillRect(x(seconds[state.token]) - 0.5, 0, 1, bottom + strip);
  }
  const placeAt = (event) => {
    const box = roll.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    return places.find((one) => px >= one.x - 1 && px <= one.x + one.width + 1 && py >= one.y && py <= one.y + one.height);
  };
  roll.onpointermove = (event) => {
    const at = placeAt(event);
    find("note").textContent = at ? `${named(state.token)} attends to ${at.says}: ${percent(at.value)}` : noteHelp;
  };
  roll.onclick = (event) => {
    const at = placeAt(event);
    if (at) change({ token: at.unit });
  };
  find("piece").hidden = !piece;

  // The matrix, with labels if the cells are high enough for text.
  const matrix = find("matrix");
  let place = { left: 0, cell: 1 };
  function drawMatrix() {
    const room = Math.min(matrix.parentElement.clientWidth, 480);
    const left = piece ? 40 : (room - 72) / count >= 13 ? 72 : 0;
    const top = piece ? 20 : left;
    place = { left, top, cell: (room - left) / count };
    const context = prepare(matrix, room, room - left + top);
    paint(context, state.values, count, left, top, room - left);
    context.fillStyle = getComputedStyle(document.body).color;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    if (piece) drawSeconds(context, left, top);
    else if (left) units.forEach((unit, i) => {
      const label = shown(unit.text).slice(0, 10);
      context.textAlign = "right";
      context.fillText(label, left - 5, top + (i + 0.5) * place.cell, left - 7);
      context.save();
      context.translate(left + (i + 0.5) * place.cell, top - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(label, 0, 0, top - 7);
      context.restore();
    });
    context.strokeStyle = context.fillStyle;
    context.strokeRect(left + 0.5, top + state.token * place.cell + 0.5, room - left - 1, Math.max(1, place.cell - 1));
  }
  // A cell is a token, so equal times are not equally wide: a tick stands where its second begins.
  function drawSeconds(context, left, top) {
    for (const [time, at] of ticks(Math.max(...piece.seconds), (time) => place.cell * piece.seconds.findIndex((one) => one >= time - 1e-6))) {
      context.textAlign = "center";
      context.fillText(`${time} s`, left + at + 0.5, top - 11);
      context.fillRect(left + at, top - 5, 1, 5);
      context.textAlign = "right";
      context.fillText(`${time} s`, left - 8, top + at + 0.5);
      context.fillRect(left - 5, top + at, 5, 1);
    }
  }
  function pointed(event) {
    const box = matrix.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top - place.top) / place.cell);
    const j = Math.floor((event.clientX - box.left - place.left) / place.cell);
    return i >= 0 && j >= 0 && i < count && j < count ? [i, j] : null;
  }
  matrix.onpointermove = (event) => {
    const at = pointed(event);
    if (at) find("cell").textContent = `${named(at[0])} (${at[0] + 1}) attends to ${named(at[1])} (${at[1] + 1}): ${percent(weight(...at))}`;
  };
  matrix.onclick = (event) => {
    const at = pointed(event);
    if (at) change({ token: at[0] });
    matrix.onpointermove(event);
  };

  // Lines. Only visible rows are drawn.
  const box = find("lines"), drawn = box.querySelector("canvas"), height = 22;
  let only = null;
  box.firstElementChild.style.height = count * height + "px";
  function drawLines() {
    const width = box.clientWidth, visible = Math.min(count * height, 480);
    const context = prepare(drawn, width, visible);
    const first = Math.max(0, Math.floor(box.scrollTop / height)), last = Math.min(count, Math.ceil((box.scrollTop + visible) / height));
    const column = Math.min(130, width * 0.32), y = (i) => (i + 0.5) * height - box.scrollTop;
    context.strokeStyle = color("--accent", 1);
    for (let i = only ?? first; i < (only === null ? last : only + 1); i++) {
      const most = Math.max(...state.values.subarray(i * count, (i + 1) * count)) ** 2;
      // Lines of all tokens: only those to visible rows. Lines of one token: all.
      for (let j = only === null ? first : 0; j < (only === null ? last : count); j++) {
        const value = weight(i, j);
        if (value < 0.15 * most) continue;
        context.globalAlpha = only === null ? Math.min(1, 0.06 + 0.6 * Math.sqrt(value)) : 0.1 + 0.8 * value / most;
        context.lineWidth = 1 + 2.5 * value;
        context.beginPath();
        context.moveTo(column, y(i));
        context.lineTo(width - column, y(j));
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    context.fillStyle = getComputedStyle(document.body).color;
    context.textBaseline = "middle";
    for (let i = first; i < last; i++) {
      const label = (piece ? `${piece.seconds[i].toFixed(2)} s ` : "") + shown(units[i].text);
      context.font = (i === only ? "bold " : "") + "13px system-ui, sans-serif";
      context.textAlign = "right";
      context.fillText(label, column - 6, y(i), column - 10);
      context.font = "13px system-ui, sans-serif";
      context.textAlign = "left";
      context.fillText(label, width - column + 6, y(i), column - 10);
    }
  }
  box.onscroll = drawLines;
  drawn.onclick = (event) => {
    const i = Math.floor((event.clientY - drawn.getBoundingClientRect().top + box.scrollTop) / height);
    only = i === only || i >= count ? null : i;
    if (only === null) drawLines();
    else change({ token: only });
  };

  // Overview of all heads: drawn once, and again when the colors change.
  const overview = find("overview"), gap = 3;
  let side = 0, scheme = null, small = null;
  function drawOverview() {
    const rows = data.attention.layers.length;
    side = Math.max(18, Math.min(44, Math.floor((overview.parentElement.clientWidth - gap) / heads) - gap));
    const context = prepare(overview, heads * (side + gap) + gap, rows * (side + gap) + gap);
    const now = `${dark.matches} ${side}`;
    if (scheme !== now) {
      scheme = now;
      small = make("canvas");
      drawSmall(prepare(small, heads * (side + gap) + gap, rows * (side + gap) + gap), now);
    }
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(small, 0, 0);
    context.restore();
    context.strokeStyle = color("--against", 1);
    context.lineWidth = 2;
    const chosen = state.head < 0 ? [0, heads] : [state.head, 1];
    context.strokeRect(chosen[0] * (side + gap) + 1, state.layer * (side + gap) + 1, chosen[1] * (side + gap) + 1, side + gap + 1);
  }
  async function drawSmall(context, wanted) {
    for (let layer = 0; layer < data.attention.layers.length; layer++) {
      for (let head = 0; head < heads; head++) {
        const values = await roots(layer, head);
        if (scheme !== wanted) return;
        paint(context, values, count, head * (side + gap) + gap, layer * (side + gap) + gap, side);
      }
      drawOverview();
    }
  }
  overview.onclick = (event) => {
    const at = overview.getBoundingClientRect();
    change({
      layer: Math.min(data.attention.layers.length - 1, Math.floor((event.clientY - at.top) / (side + gap))),
      head: Math.min(heads - 1, Math.floor((event.clientX - at.left) / (side + gap))),
    });
  };
  overview.onkeydown = (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    change({
      layer: Math.max(0, Math.min(data.attention.layers.length - 1, state.layer + move[0])),
      head: Math.max(-1, Math.min(heads - 1, state.head + move[1])),
    });
  };
  find("layer").onchange = (event) => change({ layer: Number(event.target.value) });
  find("head").onchange = (event) => change({ head: Number(event.target.value) });
  change({});
  return () => state.values && draw();
}

// Predictions of each layer.

function startLens() {
  const { vocabulary, layers: predictions } = data.lens;
  find("lens-note").textContent = data.attention.causal
    ? "Below each token, the next token that the model would predict after that layer (logit lens). Stronger colors mean higher probabilities. Click a cell to list its candidates."
    : "Below each token, the token that the model would predict instead of it after that layer (logit lens). Stronger colors mean higher probabilities. Click a cell to list its candidates.";
  const name = (layer) => (layer === 0 ? "embeddings" : `layer ${layer}`);
  const cells = [];
  let chosen = null;
  const head = make("tr", {}, make("th"), ...data.tokens.map((token) => make("th", {}, shown(token))));
  const rows = predictions.map((row, layer) => make("tr", {}, make("th", {}, name(layer)), ...row.map((candidates, i) => {
    const [token, probability] = candidates[0];
    const cell = make("td", { title: percent(probability) }, shown(vocabulary[token]));
    cell.onclick = () => choose(cell, layer, i);
    cells.push([cell, probability]);
    return cell;
  }))).reverse();
  find("says").append(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  function choose(cell, layer, i) {
    chosen?.classList.remove("chosen");
    (chosen = cell).classList.add("chosen");
    bars(find("candidates"), predictions[layer][i].map(([token, probability]) => [shown(vocabulary[token]), probability.toFixed(3), probability]));
  }
  const draw = () => cells.forEach(([cell, probability]) => (cell.style.background = color("--accent", 0.08 + 0.6 * probability)));
  draw();
  return draw;
}

// Next tokens.

function startNext() {
  const spans = [];
  find("steps").append(...data.next.map((step) => make("div", {}, make("b", {}, shown(step.token)), ...step.likeliest.map(([token, probability]) => {
    const span = make("span", {}, make("span", {}, shown(token)), make("span", {}, probability.toFixed(3)));
    spans.push([span, probability]);
    return span;
  }))));
  const draw = () => spans.forEach(([span, probability]) => {
    const filled = `${100 * probability}%`;
    span.style.background = `linear-gradient(to right, ${color("--accent", 0.35)} ${filled}, ${color("--accent", 0.07)} ${filled})`;
  });
  draw();
  return draw;
}

// Parameters and memory.

function table(heads, rows) {
  const cell = (value) => make("td", typeof value === "number" ? { className: "number" } : {}, typeof value === "number" ? value.toLocaleString("en") : value);
  return make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", {}, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))));
}

function startParameters() {
  const { total, matrices, memory } = data.parameters;
  find("memory").append(table(["Memory for", "MB", "Calculation"], memory.map(([name, bytes, calculation]) => [name, Math.round(bytes / 1e6), calculation])));
  find("total").textContent = `${total.toLocaleString("en")} parameters by matrix`;
  find("matrices").append(table(["Matrix", "Shape", "Count", "Parameters each", "Parameters"],
    [...matrices.map(([name, shape, times]) => {
      const each = shape.reduce((product, size) => product * size, 1);
      return [name, shape.map((size) => size.toLocaleString("en")).join(" × "), times, each, times * each];
    }), ["Total", "", "", "", total]]));
}

const redraw = [];
for (const [id, there, start] of [
  ["attribution", data.attributions.length, startAttribution],
  ["attention", data.attention, startAttention],
  ["lens", data.lens, startLens],
  ["next", data.next.length, startNext],
  ["parameters", data.parameters, startParameters],
]) {
  if (!there) continue;
  const section = find(id);
  section.hidden = false;
  const link = make("a", { href: "#" + id }, section.dataset.title);
  link.addEventListener("click", (event) => {
    event.preventDefault(); // in a frame, the link would open the address of the outer page
    section.scrollIntoView();
  });
  find("contents").append(link);
  redraw.push(start());
}
const again = () => redraw.forEach((draw) => draw?.());
dark.addEventListener("change", again);
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) again();
  width = innerWidth;
});
