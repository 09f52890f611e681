"use strict";
// Text from the OpenAPI schema is inserted as text nodes only.
const openapi = JSON.parse(document.getElementById("data").textContent);
const base = location.href.replace(/\/docs\/?([?#].*)?$/, "");

function add(parent, tag, text, kind) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (kind) element.className = kind;
  parent.append(element);
  return element;
}

function typeOf(schema) {
  if (schema.anyOf) return [...new Set(schema.anyOf.map(one => one.title || typeOf(one)))].filter(Boolean).join(" or ");
  if (schema.type === "array") return "array of " + typeOf(schema.items);
  if (schema.enum) return schema.enum.filter(one => one !== null).join(", ");
  return [].concat(schema.type || []).filter(one => one !== "null").join(" or ");
}

function addTable(parent, rows) {
  const table = add(parent, "table");
  for (const [name, text] of rows) {
    const row = add(table, "tr");
    add(row, "td", name);
    add(row, "td", text);
  }
}

function addFields(parent, schema) {
  const rows = Object.entries(schema.properties || {}).map(([name, one]) => {
    const required = (schema.required || []).includes(name) ? "required" : "";
    const preset = one.default === undefined ? "" : "default: " + JSON.stringify(one.default);
    const facts = [typeOf(one), required, preset].filter(Boolean).join("; ");
    return [name, one.description ? facts + ". " + one.description : facts];
  });
  if (rows.length) addTable(parent, rows);
  const inputs = schema.properties?.inputs;
  for (const form of (inputs?.anyOf?.[0] || inputs)?.items?.anyOf || []) {
    if (!form.properties) continue;
    const names = Object.keys(form.properties).map(name => `"${name}": "..."`).join(", ");
    add(parent, "p", `${form.title}: {${names}}`, "quiet");
  }
}

function addCommand(parent, method, path, example) {
  const needsKey = openapi.components?.securitySchemes && path !== "/health";
  const parts = [`curl ${base}${path}`];
  if (needsKey) parts.push("-H 'Authorization: Bearer KEY'");
  if (method === "post") parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example)}'`);
  add(parent, "pre", parts.join(" \\\n  "));
}

document.getElementById("title").textContent = `${openapi.info.title} ${openapi.info.version}`;
document.getElementById("about").textContent = openapi.info.description;
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, one] of Object.entries(methods)) {
    const section = add(document.getElementById("paths"), "section");
    section.id = method + path;
    const heading = add(section, "h2");
    add(heading, "span", method.toUpperCase());
    heading.append(" " + path);
    add(section, "p", one.description || one.summary);
    const content = one.requestBody?.content["application/json"];
    if (content) addFields(section, content.schema);
    addCommand(section, method, path, content?.example);
    const link = add(document.getElementById("contents"), "a", path);
    link.href = "#" + section.id;
    const statuses = add(section, "details");
    add(statuses, "summary", "Responses", "quiet");
    addTable(statuses, Object.entries(one.responses).map(([status, answer]) => [status, answer.description]));
  }
}
