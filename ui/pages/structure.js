"use strict";
// Text from the model and the treebank is inserted as text nodes only.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const GAP = 18; // pixels between words
const STEP = 16; // height of an arc for each level of nesting
const LONGEST = 24; // letters of a word that are shown

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const nameOf = (layer) => (layer === 0 ? "embeddings" : `layer ${layer}`);
const key = (edge) => edge.join(" ");
const measure = document.createElement("canvas").getContext("2d");
measure.font = "15px system-ui, sans-serif";

function shortened(word) {
  const letters = Array.from(word);
  return letters.length > LONGEST ? letters.slice(0, LONGEST - 1).join("") + "…" : word;
}

// The level of each arc: above all shorter arcs that it overlaps.
function levels(edges) {
  const found = new Map();
  const sorted = [...edges].sort((a, b) => a[1] - a[0] - (b[1] - b[0]));
  for (const [i, [start, end]] of sorted.entries()) {
    const below = sorted.slice(0, i).filter(([a, b]) => a < end && b > start).map((edge) => found.get(key(edge)));
    found.set(key([start, end]), 1 + Math.max(0, ...below));
  }
  return found;
}

function arc(from, to, base, height) {
  const bend = Math.min(10, Math.abs(to - from) / 2, Math.abs(height));
  const top = base + height, side = Math.sign(height);
  return `M${from} ${base} V${top - side * bend} Q${from} ${top} ${from + bend} ${top} H${to - bend} Q${to} ${top} ${to} ${top - side * bend} V${base}`;
}

function drawTree(tree, layer) {
  const words = tree.words.map(shortened);
  const widths = words.map((word) => Math.max(12, measure.measureText(word).width));
  const centers = [];
  let x = 4;
  for (const width of widths) {
    centers.push(x + width / 2);
    x += width + GAP;
  }
  const predicted = tree.predicted[layer];
  const [above, below] = [levels(tree.gold), levels(predicted)];
  const top = 8 + STEP * Math.max(0, ...above.values()), bottom = STEP * Math.max(0, ...below.values());
  const height = top + 30 + bottom + 8;
  const picture = draw("svg", { width: x, height, viewBox: `0 0 ${x} ${height}`, role: "img" });
  // Arcs that end at the same word start beside each other.
  const place = (edges, [a, b]) => {
    const at = (word, other) => {
      const ends = edges.filter((edge) => edge.includes(word)).map(([c, d]) => (c === word ? d : c));
      // From left to right: those that lead to the left, the nearest first; then those to the right, the farthest first.
      ends.sort((c, d) => (c < word) !== (d < word) ? (c < word ? -1 : 1) : d - c);
      return centers[word] + 5 * (ends.indexOf(other) - (ends.length - 1) / 2);
    };
    return [at(a, b), at(b, a)];
  };
  const gold = new Set(tree.gold.map(key));
  for (const edge of tree.gold) {
    picture.append(draw("path", { class: "gold", d: arc(...place(tree.gold, edge), top, -STEP * above.get(key(edge))) }));
  }
  for (const edge of predicted) {
    const kind = gold.has(key(edge)) ? "right" : "wrong";
    picture.append(draw("path", { class: kind, d: arc(...place(predicted, edge), top + 28, STEP * below.get(key(edge))) }));
  }
  words.forEach((word, i) => {
    const label = draw("text", { x: centers[i], y: top + 19 }, word);
    if (word !== tree.words[i]) label.append(draw("title", {}, tree.words[i]));
    picture.append(label);
  });
  const right = predicted.filter((edge) => gold.has(key(edge))).length;
  picture.setAttribute("aria-label", `${right} of ${tree.gold.length} edges found`);
  const caption = make("figcaption", {}, `${right} of ${tree.gold.length} edges found`);
  return make("figure", {}, make("div", { className: "scroll" }, picture), caption);
}

function show(layer) {
  find("layer").value = layer;
  document.querySelectorAll("tr[data-layer]").forEach((row) => row.setAttribute("aria-selected", Number(row.dataset.layer) === layer));
  find("trees").replaceChildren(...data.trees.map((tree) => drawTree(tree, layer)));
}

const cells = (scores) => scores.map((score) => make("td", {}, score.toFixed(3)));
const head = ["", "attachment", "distance", "root", "depth", "attachment, random weights"];
const rows = data.layers.map((scores, layer) => {
  const button = make("button", { type: "button", onclick: () => show(layer) }, nameOf(layer));
  const row = make("tr", {}, make("td", {}, button), ...cells(scores), ...cells(data.random[layer].slice(0, 1)));
  row.dataset.layer = layer;
  return row;
});
rows.push(make("tr", {}, make("td", {}, "neighbours attached"), ...cells(data.chain), make("td")));
find("model").textContent = data.model;
find("facts").textContent = data.facts;
find("scores").append(make("table", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name))), ...rows));
find("layer").append(...data.layers.map((_, layer) => make("option", { value: layer }, nameOf(layer))));
find("layer").onchange = (event) => show(Number(event.target.value));
show(data.best);
