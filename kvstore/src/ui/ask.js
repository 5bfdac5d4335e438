// Questions before something is done, and what came of it.

import { Refused } from "./api.js";
import { h } from "./dom.js";

// The line for why something is put into maintenance.
export const REASON = { label: "Reason", input: { placeholder: "For those who wonder" } };

// Asks whether to do what `action` names, with a line to fill in if `field` says what for. What was typed there; null:
// rather not.
export function ask({ title, text, action, field, isDangerous = false }) {
  return new Promise((done) => {
    const input = field ? h("input", { name: "answer", autocomplete: "off", ...field.input }) : null;
    const dialog = h("dialog", { ariaLabel: title },
      h("form", { method: "dialog" },
        h("h2", {}, title),
        text ? h("p", {}, text) : "",
        input ? h("label", {}, field.label, input) : "",
        h("div.bar.end", {},
          h("button", { value: "cancel", formNoValidate: true }, "Cancel"),
          h(isDangerous ? "button.primary.danger" : "button.primary", { value: "do" }, action))));
    // The Enter key is for what was asked, not for the first button.
    input?.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (dialog.querySelector("form").reportValidity()) dialog.close("do");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "do" ? (input?.value.trim() ?? "") : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    (input ?? dialog.querySelector(".primary")).focus();
  });
}

const place = document.getElementById("told");

// Says shortly what was done, or until it is closed what was not.
export function tell(text, isProblem = false) {
  const close = h("button.plain", { type: "button", ariaLabel: "Close", onclick: () => one.remove() }, "×");
  const one = h(isProblem ? "p.told.problem" : "p.told", { role: isProblem ? "alert" : "status" }, h("span", {}, text), close);
  place.replaceChildren(one);
  if (!isProblem) setTimeout(() => one.remove(), 5000);
}

// Does it and says how it went; whether it went well.
export async function attempt(what, work) {
  try {
    await work();
    tell(what);
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    tell(explained(error), true);
    return false;
  }
}

// What a refusal means to who sees it.
export function explained({ status, message }) {
  if (status === 401 && message.includes("ACL support disabled")) return "This registry has no ACLs";
  if (status === 401 || status === 403) return `${message}. “Token” above takes one that may`;
  if (status === 0) return `${message}; it is asked again and again`;
  return message;
}
