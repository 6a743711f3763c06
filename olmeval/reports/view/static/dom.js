/* Elements from data. Text enters the page as text nodes alone, never as markup. */

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "open") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

export const fill = (node, ...children) => node.replaceChildren(
  ...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));

const MINUS = "\u2212";
export const signed = (text) => text.replace("-", MINUS);
export const count = (n) => n.toLocaleString("en");
export const plural = (n, name) => `${count(n)} ${name}${n === 1 ? "" : "s"}`;

export function fixed(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return signed(/^-0\.?0*$/.test(text) ? text.slice(1) : text);
}

export function difference(value, digits = 3) {
  return (value > 0 ? "+" : "") + fixed(value, digits);
}
