// Elements, made so that nothing from the registry is ever read as HTML.

// `h("a.name", { href }, "text", child)`; properties whose name begins with `on` are listeners.
export function h(what, properties = {}, ...children) {
  const [name, ...classes] = what.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const status = (name, text = name) => h(`span.status.${name}`, {}, text);

const ROW = 40;

// A list of which only the rows in view are in the page. `row(item)` makes one.
export function virtualList(row) {
  const box = h("div.rows", { role: "list" });
  let items = null;
  const draw = () => {
    if (!box.isConnected || items === null) return;
    const above = Math.max(0, -box.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / ROW) - 5);
    const count = Math.ceil(innerHeight / ROW) + 10;
    box.style.height = `${Math.max(1, items.length) * ROW}px`;
    box.replaceChildren(
      items.length ? "" : h("p.quiet", {}, "Nothing fits."),
      ...items.slice(first, first + count).map((item, n) => {
        const element = row(item);
        element.setAttribute("role", "listitem");
        element.style.top = `${(first + n) * ROW}px`;
        return element;
      }),
    );
  };
  const begin = (signal) => {
    addEventListener("scroll", draw, { signal, passive: true });
    addEventListener("resize", draw, { signal, passive: true });
  };
  return { box, begin, show: (all) => ((items = all), draw()) };
}
