// Sessions with the locks that they hold, and events.

import { change, decoded, path, watch } from "./api.js";
import { ask, attempt } from "./ask.js";
import { button, danger, h, loading, nothing, redraw } from "./dom.js";
import { link as keyLink } from "./keys.js";
import { keys, sessions as held } from "./registry.js";
import { link } from "./services.js";

export function sessions(_, { signal }) {
  const list = h("div", {}, loading());
  let all = null;
  let entries = [];
  const draw = () => {
    if (!all) return;
    redraw(list,
      all.map((one) => session(one, entries.filter(({ Session }) => Session === one.ID))),
      all.length ? "" : nothing("There is no session.", "A session is made by who wants to lock keys: ",
        h("code", {}, "kvstore lock jobs/nightly ./job.sh")));
  };
  held.follow(signal, (value) => ((all = value), draw()));
  // Where there are too many keys only their names are known.
  keys.follow(signal, (value) => ((entries = value.filter((one) => one.Session)), draw()));
  return { title: "Sessions and locks", content: list };
}

function session(one, locked) {
  const name = one.Name || one.ID;
  const end = async () => {
    const text = one.Behavior === "delete" ? "The keys that it has locked are deleted." : "Its locks are given back.";
    if ((await ask({ title: `End the session ${name}?`, text, action: "End it", isDangerous: true })) === null) return;
    await attempt(`The session ${name} ended`, () => change("PUT", path("/v1/session/destroy", one.ID)));
  };
  return h("section.card", { "data-key": one.ID, ariaLabel: name },
    h("div.line", {}, h("h3.grow", {}, name), danger("End it", end)),
    h("p", {}, "on ", h("a", { href: link("node", one.Node) }, one.Node),
      one.TTL ? `, TTL ${one.TTL}` : ", no TTL",
      one.Behavior === "delete" ? ", its end deletes its keys" : ", its end gives its locks back"),
    h("p", {}, locked.length ? "Locks " : "Locks nothing",
      locked.flatMap(({ Key }) => [h("a", { href: keyLink(Key) }, Key), " "])),
    h("p.quiet", {}, one.ID));
}

export function events(_, { signal }) {
  const list = h("div", {}, loading());
  watch("/v1/event/list", signal, (value) => {
    const all = (value ?? []).toReversed();
    redraw(list,
      all.map(event),
      all.length ? "" : nothing("No event was fired lately.",
        "They reach who waits with ", h("code", {}, "kvstore watch -type event")));
  });
  const fire = async () => {
    const field = { label: "Name", input: { required: true, placeholder: "deploy" } };
    const name = await ask({ title: "Fire an event", action: "Fire", field });
    if (name) await attempt(`${name} was fired`, () => change("PUT", path("/v1/event/fire", name)));
  };
  return { title: "Events", content: h("div", {}, h("div.bar", {}, button("Fire an event", fire)), list) };
}

function event(one) {
  const filters = ["Node", "Service", "Tag"].filter((what) => one[`${what}Filter`]);
  return h("section.card", { ariaLabel: one.Name },
    h("h3", {}, one.Name),
    one.Payload ? h("pre", {}, decoded(one.Payload)) : "",
    h("p.quiet", {}, one.ID, filters.map((what) => `, ${what.toLowerCase()} ${one[`${what}Filter`]}`)));
}
