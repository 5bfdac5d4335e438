// All services at a glance, and one with its instances.

import { change, path, watch } from "./api.js";
import { h, status, virtualList } from "./dom.js";
import { matches, statusOf, summary } from "./health.js";

const link = (view, name) => `#/${view}/${encodeURIComponent(name)}`;

export function services(_, { signal, trouble }) {
  let found = {};
  let checks = [];
  const search = h("input", { type: "search", placeholder: "Name or tag", ariaLabel: "Search services" });
  const only = h("select", { ariaLabel: "Status" }, ...["all", "critical", "warning", "passing", "maintenance"].map((name) =>
    h("option", { value: name }, name)));
  const total = h("span.quiet");
  const list = virtualList(({ name, tags, count, status: worst }) =>
    h("a.row", { href: link("service", name) },
      h("span", { title: name }, name),
      status(worst, counted(count)),
      h("span", { title: tags.join(" ") }, tags.map((tag) => h("span.tag", {}, tag)))));
  const draw = () => {
    const all = summary(found, checks);
    const fitting = all.filter((one) => (only.value === "all" || one.status === only.value)
      && matches(search.value, one.name, ...one.tags));
    total.textContent = fitting.length === all.length ? `${all.length}` : `${fitting.length} of ${all.length}`;
    list.show(fitting);
  };
  list.begin(signal);
  search.addEventListener("input", draw);
  only.addEventListener("change", draw);
  watch("/v1/catalog/services", signal, (value) => ((found = value ?? {}), draw()), trouble);
  watch("/v1/health/state/any", signal, (value) => ((checks = value ?? []), draw()), trouble);
  return { title: "Services", content: h("div", {}, h("div.bar", {}, search, only, total), list.box) };
}

const counted = (count) => Object.entries(count).map(([name, n]) => (name === "passing" ? `${n}` : `${n} ${name}`)).join(", ") || "–";

export function service([name], { signal, trouble }) {
  const content = h("div", {}, h("p.quiet", {}, "…"));
  let live = null;
  let entries = [];
  const draw = () => {
    const versions = [...new Set(entries.map(({ Service }) => Service.Meta?.version).filter(Boolean))].sort();
    content.replaceChildren(
      versions.length ? h("p", {}, "Versions: ", versions.map((version) => h(version === live ? "span.tag.live" : "span.tag",
        version === live ? { title: "live" } : {}, version))) : "",
      ...entries.map((entry) => instance(entry, trouble)),
      entries.length ? "" : h("p.quiet", {}, "There is no instance."));
  };
  watch(path("/v1/health/service", name), signal, (value) => ((entries = value ?? []), draw()), trouble);
  watch(path("/v1/kv", "release", name), signal, (value) => ((live = value ? decoded(value[0].Value) : null), draw()), trouble);
  return { title: name, content };
}

export const decoded = (base64, options) =>
  new TextDecoder("utf-8", options).decode(Uint8Array.from(atob(base64 ?? ""), (c) => c.charCodeAt(0)));

function instance({ Node, Service, Checks }, trouble) {
  const found = statusOf(Checks);
  const address = `${Service.Address || Node.Address}${Service.Port ? `:${Service.Port}` : ""}`;
  const meta = Object.entries(Service.Meta ?? {});
  return h("section.card", {},
    h("h3", {}, status(found), " ", Service.ID),
    h("p", {}, address, " on ", h("a", { href: link("node", Node.Node) }, Node.Node), " ",
      (Service.Tags ?? []).map((tag) => h("span.tag", {}, tag))),
    meta.length ? h("p.quiet", {}, meta.map(([key, value]) => `${key}=${value}`).join("  ")) : "",
    Checks.map(check),
    h("div.bar", {}, maintenance(Service.ID, found === "maintenance", trouble)));
}

export const check = ({ Name, CheckID, Status, Output, Notes }) =>
  h("details", { open: Status !== "passing" },
    h("summary", {}, status(Status), " ", Name || CheckID, Notes ? h("span.quiet", {}, ` ${Notes}`) : ""),
    Output ? h("pre", {}, Output) : h("p.quiet", {}, "It says nothing."));

// Only the agent that runs here can put its own instances into maintenance; it says so of others.
function maintenance(id, on, trouble) {
  const button = h("button", { type: "button" }, on ? "End maintenance" : "Maintenance");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const reason = on ? "" : "&reason=" + encodeURIComponent("by the web UI");
      await change("PUT", `${path("/v1/agent/service/maintenance", id)}?enable=${!on}${reason}`);
    } catch (error) {
      trouble(error);
    }
    button.disabled = false;
  });
  return button;
}
