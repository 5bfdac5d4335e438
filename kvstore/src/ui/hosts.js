// Hosts: all of them, and one with its instances and checks.

import { maintainNode } from "./actions.js";
import { path } from "./api.js";
import { REASON, ask, attempt } from "./ask.js";
import { button, h, loading, nothing, redraw, status, tag } from "./dom.js";
import { NODE_MAINTENANCE, count, counted, instancesOf, matches, statusOf } from "./health.js";
import { search, virtualList } from "./list.js";
import { catalog, followOutputs } from "./registry.js";
import { check, link, pairs } from "./services.js";

const ofNode = ({ Checks }) => Checks.filter(({ ServiceID }) => !ServiceID);

export function nodes(_, { signal }) {
  let all = null;
  const list = virtualList(signal, "Nodes", (node) =>
    h("a.row", { href: link("node", node.Node) },
      h("span.name", { title: node.Node }, node.Node),
      h("span.health", {}, status(statusOf(ofNode(node)))),
      h("span.tags", {}, h("code", {}, node.Address), " ",
        h("span.quiet", {}, `${node.Services.length} ${node.Services.length === 1 ? "instance" : "instances"}`))),
  () => nothing(all.length ? "No node fits." : "No node is registered."));
  const wait = loading();
  const draw = () => all && list.show(all.filter(({ Node, Address }) => matches(input.value, Node, Address)));
  const input = search("Search nodes", "Name or address", list, draw);
  catalog.follow(signal, (found) => {
    wait.remove();
    all = found.toSorted((a, b) => a.Node.localeCompare(b.Node));
    draw();
  });
  return { title: "Nodes", content: h("div", {}, h("div.bar", {}, input), wait, list.box) };
}

export function node([name], { signal }) {
  const content = h("div", {}, loading());
  let all = null;
  let newest = (one) => one;
  let shown = "";
  const draw = () => {
    if (!all) return;
    const known = all.find(({ Node }) => Node.toLowerCase() === name.toLowerCase());
    const found = known && { ...known, Checks: known.Checks.map(newest) };
    const now = JSON.stringify(found);
    if (now === shown) return;
    shown = now;
    const unknown = () => nothing(`No node ${name} is registered.`, h("a", { href: "#/nodes" }, "All nodes"));
    redraw(content, found ? about(found) : unknown());
  };
  catalog.follow(signal, (nodes) => ((all = nodes), draw()));
  followOutputs(path("/v1/health/node", name), signal, (find) => ((newest = find), draw()));
  return { title: name, content };
}

function about(found) {
  const { Node, Address, ID, Meta, Checks } = found;
  const isMaintained = Checks.some(({ CheckID }) => CheckID === NODE_MAINTENANCE);
  const maintenance = async () => {
    const reason = isMaintained ? "" : await ask({ title: `Maintenance of ${Node}?`, action: "Begin maintenance",
      text: "No instance on it gets work until maintenance ends.", field: REASON });
    if (reason === null) return;
    await attempt(isMaintained ? `Maintenance of ${Node} ended` : `${Node} is in maintenance`,
      () => maintainNode(Node, !isMaintained, reason));
  };
  const own = instancesOf([found]).toSorted((a, b) => a.service.Service.localeCompare(b.service.Service));
  return [
    h("div.line", {},
      h("p.grow.summary", {}, status(statusOf(ofNode(found))), " ", h("code", {}, Address),
        ID ? h("span.quiet", {}, ` ${ID}`) : ""),
      button(isMaintained ? "End maintenance" : "Maintenance", maintenance)),
    pairs(Meta),
    h("h2", {}, "Checks of the node"),
    ofNode(found).map(check),
    ofNode(found).length ? "" : h("p.quiet", {}, "It has no check of its own."),
    h("h2", {}, "Instances ", h("span.quiet", {}, counted(count(own.map((one) => one.status))))),
    own.map(({ service, status: one }) => h("p.line", {},
      h("span.grow", {}, status(one), " ",
        h("a", { href: link("service", service.Service), "data-key": service.ID }, service.Service), " ",
        h("span.quiet", {}, `${service.ID}${service.Port ? ` :${service.Port}` : ""} `)),
      h("span.tags", {}, (service.Tags ?? []).map(tag)))),
    own.length ? "" : h("p.quiet", {}, "No instance is registered on it."),
  ];
}
