/* Texts of models and benchmarks as they are: marks that turn or hide text are named, long texts
   are cut until asked for, tokens carry their log-probability as colour, underline and number. */

import { el, count, fixed, plural } from "./dom.js";

const LIMIT = 20000;
// Direction marks, zero-width characters, controls, halves of surrogate pairs.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

function named(character) {
  const code = character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  return el("span", { class: "hidden-mark", title: `the character U+${code}, which shows nothing itself` }, `U+${code}`);
}

/* The nodes of a text. */
export function nodes(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > at) found.push(text.slice(at, match.index));
    found.push(named(match[0]));
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push(text.slice(at));
  return found;
}

/* A text as a block; `mark` [begin, end] is highlighted. */
export function block(text, { mark = null } = {}) {
  const box = el("pre", { class: "text", tabindex: "0" });
  const show = (upTo) => {
    const [from, to] = mark && mark[1] <= upTo ? mark : [upTo, upTo];
    box.replaceChildren(...nodes(text.slice(0, from)),
      ...(to > from ? [el("mark", { title: "the answer that was extracted" }, ...nodes(text.slice(from, to)))] : []),
      ...nodes(text.slice(to, upTo)));
    if (upTo < text.length) {
      box.append(el("button", { type: "button", class: "more", onclick: () => show(text.length) },
        `… show all ${count(text.length)} characters`));
    }
    if (!text) box.append(el("span", { class: "soft" }, "(empty)"));
  };
  show(Math.min(LIMIT, text.length));
  return box;
}

/* Surprise in bits, in seven steps: the class says colour and thickness of the underline. */
const STEPS = [0.5, 1, 2, 4, 7, 11];
const step = (logprob) => {
  const bits = -logprob / Math.LN2;
  const at = STEPS.findIndex((most) => bits < most);
  return at < 0 ? STEPS.length : at;
};

/* Scored tokens: each with its log-probability. */
export function scored(pieces, logprobs) {
  const box = el("span", { class: "tokens" });
  pieces.slice(0, 6000).forEach((piece, k) => {
    const p = logprobs[k];
    const shown = piece === "" ? [el("span", { class: "soft" }, "·")]
      : nodes(piece.replaceAll("\n", "↵").replaceAll("\t", "→"));
    const title = p === null || p === undefined ? "no log-probability"
      : `token ${k + 1}: log p ${fixed(p, 4)}, p ${(100 * Math.exp(p)).toPrecision(3)} %, ${(-p / Math.LN2).toFixed(2)} bits`
        + (piece === "" ? " (a part of the next character)" : "");
    box.append(el("span", { class: `token ${p === null || p === undefined ? "" : "s" + step(p)}`, title },
      el("span", { class: "piece" }, ...shown),
      el("span", { class: "number" }, p === null || p === undefined ? "?" : fixed(p, 2))));
    if (piece.includes("\n")) box.append(el("br"));
  });
  if (pieces.length > 6000) box.append(el("span", { class: "soft" }, ` … ${plural(pieces.length - 6000, "more token")}`));
  return box;
}

/* Given tokens: boundaries alone. `from` is the number of characters before the first. */
export function given(pieces) {
  const box = el("pre", { class: "text given", tabindex: "0" });
  pieces.forEach((piece, k) => box.append(el("span", { class: k % 2 ? "odd" : "even" },
    ...(piece === "" ? [el("span", { class: "soft", title: "a part of the next character" }, "·")] : nodes(piece)))));
  return box;
}

export function legend() {
  return el("p", { class: "legend note" }, "Bits of surprise: ",
    ["< ½", "½", "1", "2", "4", "7", "11 +"].map((label, k) =>
      [el("span", { class: `token s${k}` }, el("span", { class: "piece" }, label)), " "]),
    "The number under a token is its natural-log probability.");
}
