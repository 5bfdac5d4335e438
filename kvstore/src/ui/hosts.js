// Hosts and what is bound to them: nodes, sessions, events.

import { change, path, watch } from "./api.js";
import { h, status, virtualList } from "./dom.js";
import { matches, statusOf } from "./health.js";
import { check, decoded } from "./services.js";

export function nodes(_, { signal, trouble }) {
  let found = [];
  let checks = [];
  const search = h("input", { type: "search", placeholder: "Name or address", ariaLabel: "Search nodes" });
  const list = virtualList(({ Node, Address, Meta, status: worst }) =>
    h("a.row", { href: `#/node/${encodeURIComponent(Node)}` },
      h("span", {}, Node), status(worst), h("span.quiet", {}, Address, " ",
        Object.entries(Meta ?? {}).filter(([, value]) => value).map(([key, value]) => `${key}=${value}`).join("  "))));
  const draw = () => {
    const own = (name) => checks.filter((one) => one.Node === name && !one.ServiceID);
    const fitting = found.filter((one) => matches(search.value, one.Node, one.Address));
    list.show(fitting.map((one) => ({ ...one, status: statusOf(own(one.Node)) })));
  };
  list.begin(signal);
  search.addEventListener("input", draw);
  watch("/v1/catalog/nodes", signal, (value) => ((found = value ?? []), draw()), trouble);
  watch("/v1/health/state/any", signal, (value) => ((checks = value ?? []), draw()), trouble);
  return { title: "Nodes", content: h("div", {}, h("div.bar", {}, search), list.box) };
}

export function node([name], { signal, trouble }) {
  const about = h("p.quiet");
  const services = h("div");
  const checks = h("div");
  watch(path("/v1/catalog/node-services", name), signal, (value) => {
    about.textContent = value?.Node ? `${value.Node.Address}  ${value.Node.ID}` : "It is not registered.";
    services.replaceChildren(...(value?.Services ?? []).map((one) => h("p", {},
      h("a", { href: `#/service/${encodeURIComponent(one.Service)}` }, one.Service),
      ` ${one.ID}${one.Port ? ` :${one.Port}` : ""} `, (one.Tags ?? []).map((tag) => h("span.tag", {}, tag)))));
  }, trouble);
  watch(path("/v1/health/node", name), signal, (value) => checks.replaceChildren(...(value ?? []).map(check)), trouble);
  return { title: name, content: h("div", {}, about, h("h2", {}, "Instances"), services, h("h2", {}, "Checks"), checks) };
}

export function sessions(_, { signal, trouble }) {
  const list = h("div");
  watch("/v1/session/list", signal, (value) => {
    const all = value ?? [];
    list.replaceChildren(...all.map((one) => h("section.card", {},
      h("h3", {}, one.Name || one.ID),
      h("p", {}, `${one.Node}, `, one.TTL ? `TTL ${one.TTL}` : "no TTL", `, ${one.Behavior} locks at its end`),
      h("p.quiet", {}, one.ID),
      h("div.bar", {}, h("button.danger", { type: "button", onclick: () => end(one, trouble) }, "End it")))),
    all.length ? "" : h("p.quiet", {}, "There is no session."));
  }, trouble);
  return { title: "Sessions", content: list };
}

async function end(session, trouble) {
  if (!confirm(`End the session ${session.Name || session.ID}? Its locks are given back.`)) return;
  await change("PUT", path("/v1/session/destroy", session.ID)).catch(trouble);
}

export function events(_, { signal, trouble }) {
  const list = h("div");
  watch("/v1/event/list", signal, (value) => {
    const all = (value ?? []).toReversed();
    list.replaceChildren(...all.map((one) => h("section.card", {},
      h("h3", {}, one.Name),
      one.Payload ? h("pre", {}, decoded(one.Payload)) : "",
      h("p.quiet", {}, one.ID))), all.length ? "" : h("p.quiet", {}, "No event was fired lately."));
  }, trouble);
  return { title: "Events", content: list };
}
