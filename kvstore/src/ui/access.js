// Who may: the token that is in use here, all tokens, and the policies that they have.

import { Refused, change, path, read, token } from "./api.js";
import { ask, attempt, explained, tell } from "./ask.js";
import { button, danger, h, loading, nothing, redraw } from "./dom.js";

export function access(_, { signal }) {
  const content = h("div", {}, loading());
  // Nobody can wait for these, so they are read when they are shown and after each change.
  const draw = async () => {
    const [self, tokens, policies] = await Promise.all([
      "/v1/acl/token/self", "/v1/acl/tokens", "/v1/acl/policies",
    ].map((where) => read(where).catch((error) => (error instanceof Refused ? error : Promise.reject(error)))));
    if (signal.aborted) return;
    const isOff = [self, tokens, policies].some((one) => one instanceof Refused && one.message.includes("ACL support disabled"));
    redraw(content, isOff ? off() : [own(self), all(tokens, policies, draw), rules(policies, draw)]);
  };
  draw().catch((error) => tell(error.message, true));
  return { title: "Access", content };
}

const off = () => nothing("This registry runs without ACLs.",
  "There are no policies to show: whoever reaches it may do everything, unless tokens for reading or writing are ",
  "configured. “Token” above takes one.");

const denied = (error) => h("p.problem", { role: "alert" }, explained(error));

const POLICY_OF_ALL = "00000000-0000-0000-0000-000000000001";
const ANONYMOUS = "00000000-0000-0000-0000-000000000002";

const titled = ({ Description, AccessorID }) =>
  Description || (AccessorID === ANONYMOUS ? "Anonymous" : "Without a description");

const named = (policies) => (policies ?? []).map(({ Name }) => h("span.tag", {}, Name));

function own(self) {
  const none = "You have shown none. “Token” above takes one.";
  const refused = self instanceof Refused && (token.get() ? explained(self) : none);
  return h("section", { ariaLabel: "Your token" },
    h("h2", {}, "Your token"),
    refused || !self
      ? h("p.card", {}, refused || "The registry does not know it.")
      : h("div.card", {}, h("h3", {}, titled(self)), h("p", {}, named(self.Policies)), h("p.quiet", {}, self.AccessorID)));
}

function all(tokens, policies, draw) {
  const create = async () => {
    const field = { label: "Description", input: { required: true } };
    const description = await ask({ title: "A new token", action: "Next", field });
    if (description === null) return;
    const chosen = await choose(policies);
    if (chosen === null) return;
    const body = JSON.stringify({ Description: description, Policies: chosen.map((ID) => ({ ID })) });
    await attempt("The token was made", async () => secret(JSON.parse(await change("PUT", "/v1/acl/token", body))));
    await draw();
  };
  const remove = async (one) => {
    const title = `Delete the token ${one.Description || one.AccessorID}?`;
    const text = "Whoever shows it is refused from then on.";
    if ((await ask({ title, text, action: "Delete", isDangerous: true })) === null) return;
    await attempt("The token was deleted", () => change("DELETE", path("/v1/acl/token", one.AccessorID)));
    await draw();
  };
  const card = (one) => h("div.card.line", { "data-key": one.AccessorID },
    h("div.grow", {},
      h("h3", {}, titled(one)),
      h("p", {}, named(one.Policies)),
      h("p.quiet", {}, one.AccessorID, one.CreateTime ? `, made ${one.CreateTime.replace(/\.\d+/, "")}` : "")),
    one.AccessorID === ANONYMOUS ? "" : danger("Delete", () => remove(one)));
  const isComplete = !(tokens instanceof Refused || policies instanceof Refused);
  return h("section", { ariaLabel: "Tokens" },
    h("div.line", {}, h("h2.grow", {}, "Tokens"), isComplete ? button("New token", create) : ""),
    tokens instanceof Refused ? denied(tokens) : (tokens ?? []).map(card),
    tokens instanceof Refused || tokens?.length ? "" : nothing("There is no token that you may see."));
}

// The ids of the policies that a new token gets; null: rather none at all.
function choose(policies) {
  return new Promise((done) => {
    const box = ({ ID, Name }) => h("label.check", {}, h("input", { type: "checkbox", value: ID }), Name);
    const boxes = (policies ?? []).map(box);
    const dialog = h("dialog", { ariaLabel: "Policies" }, h("form", { method: "dialog" },
      h("h2", {}, "What may it do?"), boxes, boxes.length ? "" : h("p", {}, "There is no policy, so it may what everybody may."),
      h("div.bar.end", {}, h("button", { value: "cancel" }, "Cancel"), h("button.primary", { value: "do" }, "Make it"))));
    dialog.addEventListener("close", () => {
      const chosen = [...dialog.querySelectorAll("input:checked")].map(({ value }) => value);
      dialog.remove();
      done(dialog.returnValue === "do" ? chosen : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// A secret is shown here and nowhere else.
function secret({ SecretID, Description }) {
  const dialog = h("dialog", { ariaLabel: "The new token" }, h("form", { method: "dialog" },
    h("h2", {}, Description), h("p", {}, "Its secret, for who is to use it:"), h("pre.secret", { tabIndex: 0 }, SecretID),
    h("div.bar.end", {}, h("button.primary", {}, "Done"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function rules(policies, draw) {
  const create = async () => {
    const input = { required: true, pattern: "[A-Za-z0-9_\\-]+", title: "Letters, digits, - and _" };
    const field = { label: "Name", input };
    const name = await ask({ title: "A new policy", action: "Make it", text: "Its rules are written then.", field });
    if (!name) return;
    const body = JSON.stringify({ Name: name, Rules: "" });
    if (await attempt(`The policy ${name} was made`, () => change("PUT", "/v1/acl/policy", body))) await draw();
  };
  return h("section", { ariaLabel: "Policies" },
    h("div.line", {}, h("h2.grow", {}, "Policies"), policies instanceof Refused ? "" : button("New policy", create)),
    policies instanceof Refused ? denied(policies) : (policies ?? []).map((one) => policy(one, draw)),
    policies instanceof Refused || policies?.length ? "" : nothing("There is no policy that you may see."));
}

function policy({ ID, Name, Description }, draw) {
  const body = h("div");
  const box = h("details.card", { "data-key": ID },
    h("summary", {}, h("strong", {}, Name), Description ? h("span.quiet", {}, ` ${Description}`) : ""), body);
  box.addEventListener("toggle", async () => {
    if (!box.open || body.childElementCount) return;
    const found = await read(path("/v1/acl/policy", ID)).catch((error) => error);
    if (!found || found instanceof Error) {
      return body.replaceChildren(found ? denied(found) : nothing("It is not there any more."));
    }
    const isFixed = ID === POLICY_OF_ALL;
    const text = h("textarea", { value: found.Rules, spellcheck: false, ariaLabel: `Rules of ${Name}`, readOnly: isFixed,
      placeholder: 'key_prefix "app/" { policy = "read" }' });
    const save = () => {
      const { Datacenters } = found;
      const changed = JSON.stringify({ ID, Name, Description, Datacenters, Rules: text.value });
      return attempt(`The policy ${Name} was saved`, () => change("PUT", path("/v1/acl/policy", ID), changed));
    };
    const remove = async () => {
      const wish = { title: `Delete the policy ${Name}?`, text: "Tokens that have it lose what it allows." };
      if ((await ask({ ...wish, action: "Delete", isDangerous: true })) === null) return;
      if (await attempt(`The policy ${Name} was deleted`, () => change("DELETE", path("/v1/acl/policy", ID)))) await draw();
    };
    body.replaceChildren(text, isFixed
      ? h("p.quiet", {}, "It allows everything, and stays as it is.")
      : h("div.bar", {}, h("button.primary", { type: "button", onclick: save }, "Save"), danger("Delete", remove)));
  });
  return box;
}
