// All services at a glance, and one with its versions, instances and checks.

import { drain, drainingCheck, maintain, release, releases } from "./actions.js";
import { decoded, path } from "./api.js";
import { REASON, ask, attempt } from "./ask.js";
import { button, h, loading, nothing, redraw, status, tag } from "./dom.js";
import { count, counted, instancesOf, matches, meaning, summary, together, versions } from "./health.js";
import { search, virtualList } from "./list.js";
import { catalog, followOutputs, followRelease, keys } from "./registry.js";

export const link = (view, name) => `#/${view}/${encodeURIComponent(name)}`;

const FILTERS = {
  all: () => true,
  passing: (one) => one.status === "passing",
  warning: (one) => one.status === "warning",
  critical: (one) => one.status === "critical",
  "out of use": ({ counts }) => counts.draining || counts.maintenance,
};

// Which services are shown stays what it was when the list is shown again.
let only = "all";

export function services(_, { signal }) {
  let all = null;
  let live = new Map();
  const list = virtualList(signal, "Services", (one) => row(one, live.get(one.name.toLowerCase())), () =>
    all.length
      ? nothing("No service fits.", "Other words, or “all”, show more.")
      : nothing("No service is registered yet.", "Start a container beside a registrar, or register one: ",
          h("code", {}, "kvstore services register -name web -port 80")));
  const wait = loading();
  const filters = h("div.choice", { role: "group", ariaLabel: "Status" });
  const draw = () => {
    if (!all) return;
    const sought = all.filter((one) => matches(input.value, one.name, ...one.tags));
    redraw(filters, Object.entries(FILTERS).map(([name, fits]) => {
      const choose = () => ((only = name), draw());
      return h("button.chip", { type: "button", "aria-pressed": only === name, "data-key": name, onclick: choose },
        name, h("span.count", {}, `${sought.filter(fits).length}`));
    }));
    list.show(sought.filter(FILTERS[only]));
  };
  const input = search("Search services", "Name or tag", list, draw);
  catalog.follow(signal, (nodes) => {
    wait.remove();
    all = summary(instancesOf(nodes));
    draw();
  });
  keys.follow(signal, (entries) => {
    const released = entries.filter((one) => one.Value !== undefined && one.Key.startsWith("release/"));
    live = new Map(released.map(({ Key, Value }) => [Key.slice("release/".length), decoded(Value).trim()]));
    draw();
  });
  return { title: "Services", content: h("div", {}, h("div.bar", {}, input, filters), wait, list.box) };
}

function row({ name, tags, total, counts, status: worst }, live) {
  return h("a.row", { href: link("service", name) },
    h("span.name", { title: name }, name),
    h("span.health", {}, bar(counts, total), status(worst, counted(counts))),
    h("span.tags", { title: tags.join(" ") },
      live ? h("span.tag.live", { title: "The live version" }, `${live} live`) : "", tags.map(tag)));
}

// How many of all are in each status, as lengths.
function bar(counts, total) {
  const parts = Object.entries(counts).map(([name, n]) => {
    const part = h(`i.${name}`);
    part.style.flexGrow = n / total;
    return part;
  });
  return h("span.parts", { ariaHidden: "true" }, parts);
}

// Who filters by outputs is told of each of them.
const ANY_OUTPUT = encodeURIComponent('Output == "" or Output != ""');

// What is wrong comes first; all others stay in the registry's order.
const URGENT = ["warning", "critical"];

export function service([name], { signal }) {
  const content = h("div", {}, loading());
  let live = null;
  let own = null;
  let newest = (one) => one;
  let shown = "";
  const draw = () => {
    if (!own) return;
    const instances = own.map((one) => ({ ...one, checks: one.checks.map(newest) }));
    // What else changes in the catalog does not disturb who reads here.
    const now = JSON.stringify([instances, live]);
    if (now === shown) return;
    shown = now;
    const statuses = own.map((one) => one.status);
    redraw(content,
      own.length ? h("p.summary", {}, status(together(statuses), counted(count(statuses)))) : "",
      own.length ? "" : nothing(`No instance of ${name} is registered.`, "It appears here as soon as there is one."),
      released(name, own, live),
      own.length ? h("h2", {}, "Instances") : "",
      instances.map(instance));
  };
  catalog.follow(signal, (nodes) => {
    own = instancesOf(nodes).filter((one) => one.service.Service.toLowerCase() === name.toLowerCase())
      .sort((a, b) => URGENT.indexOf(b.status) - URGENT.indexOf(a.status));
    draw();
  });
  followRelease(name, signal, (version) => ((live = version), draw()));
  followOutputs(`${path("/v1/health/checks", name)}?filter=${ANY_OUTPUT}`, signal, (find) => ((newest = find), draw()));
  return { title: name, content };
}

function released(name, own, live) {
  const all = versions(own, live);
  if (!all.length && live === null) return "";
  if (live !== null && !all.some(({ isLive }) => isLive)) all.push({ name: live, total: 0, passing: 0, isLive: true });
  const change = async (version) => {
    const who = "Whoever has no version of its own gets";
    const [title, text, action, done] = version === null
      ? [`Let no version of ${name} be live?`, `${who} all instances.`, "Clear", `No version of ${name} is live`]
      : [`Release ${version} of ${name}?`, `${who} its instances from now on.`, "Release", `${version} of ${name} is live`];
    if ((await ask({ title, text, action })) !== null) await attempt(done, () => release(name, version));
  };
  return h("section", { "data-key": "versions", ariaLabel: "Versions" },
    h("h2", {}, "Versions"),
    h("div.card", {}, all.map((one) => h("div.line", { "data-key": one.name },
      h("span.grow", {}, h(one.isLive ? "span.tag.live" : "span.tag", {}, one.isLive ? `${one.name} live` : one.name), " ",
        h("span.quiet", {}, `${one.passing} of ${one.total} pass`)),
      one.isLive ? button("Clear", () => change(null)) : button("Release", () => change(one.name)))),
    history(name)));
}

function history(name) {
  const list = h("div");
  const box = h("details", { "data-key": "history" }, h("summary", {}, "History"), list);
  box.addEventListener("toggle", async () => {
    if (!box.open) return;
    const all = await releases(name).then((found) => found.all, () => []);
    list.replaceChildren(...all.map(({ Version, At, By }) =>
      h("p", {}, h("time.quiet", {}, `${At}`), ` ${Version ?? "none"} `, h("span.quiet", {}, `by ${By}`))),
    all.length ? "" : h("p.quiet", {}, "Nothing was released yet."));
  });
  return box;
}

function instance({ node, service: own, checks, status: found }) {
  const address = `${own.Address || node.Address}${own.Port ? `:${own.Port}` : ""}`;
  const has = (id) => checks.some(({ CheckID }) => CheckID === id);
  const isMaintained = has(`_service_maintenance:${own.ID}`);
  const isDrained = has(drainingCheck(own));
  const maintenance = async () => {
    const reason = isMaintained ? "" : await ask({ title: `Maintenance of ${own.ID}?`, action: "Begin maintenance",
      text: "It gets no work until maintenance ends.", field: REASON });
    if (reason === null) return;
    await attempt(isMaintained ? `Maintenance of ${own.ID} ended` : `${own.ID} is in maintenance`,
      () => maintain(node.Node, own.ID, !isMaintained, reason));
  };
  const draining = async () => {
    const wish = { title: `Drain ${own.ID}?`, text: "It gets no new work, and finishes what it has.", action: "Drain" };
    if (!isDrained && (await ask(wish)) === null) return;
    await attempt(isDrained ? `${own.ID} takes work again` : `${own.ID} is draining`, () => drain(node.Node, own, !isDrained));
  };
  return h("section.card", { "data-key": `${node.Node}/${own.ID}`, ariaLabel: own.ID },
    h("div.line", {},
      h("h3.grow", {}, status(found), " ", h("span", {}, own.ID)),
      h("div.bar", {},
        button(isDrained ? "End draining" : "Drain", draining),
        button(isMaintained ? "End maintenance" : "Maintenance", maintenance))),
    h("div.line.facts", {}, h("code", {}, address), h("span", {}, "on ", h("a", { href: link("node", node.Node) }, node.Node)),
      h("span", {}, (own.Tags ?? []).map(tag)), pairs(own.Meta)),
    checks.length ? checks.map(check) : h("p.quiet", {}, "It has no check, so it counts as passing."));
}

// Metadata, for who looks for it.
export function pairs(meta) {
  const all = Object.entries(meta ?? {}).filter(([, value]) => value);
  return all.length ? h("span.quiet.pairs", {}, all.map(([key, value]) => h("span", {}, `${key}=${value}`))) : "";
}

// What is wrong is unfolded, also when it begins to be.
export function check(one) {
  const { Name, CheckID, Status, Output, Notes, ServiceID } = one;
  return h("details", { open: Status !== "passing" && Output !== "", "data-key": `${CheckID} ${Status}` },
    h("summary", {}, status(meaning(one)), " ", Name || CheckID,
      h("span.quiet", {}, ServiceID ? "" : " of the node", Notes ? ` – ${Notes}` : "")),
    Output ? h("pre", {}, Output) : h("p.quiet", {}, "It says nothing."));
}
