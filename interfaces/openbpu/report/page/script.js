// Tabs, and sorting and filtering of whatever has rows. Without it everything is there, one below another.
"use strict";
{
  const FIRST = 100; // rows that are shown before somebody asks for all
  const made = (tag, properties, ...inside) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...inside);
    return element;
  };

  const show = () => {
    const tabs = [...document.querySelectorAll(".tab")];
    const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const tab = wanted?.closest(".tab") ?? tabs[0];
    for (const other of tabs) other.classList.toggle("shown", other === tab);
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${tab?.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (wanted && wanted !== tab) {
      wanted.hidden = false;
      wanted.scrollIntoView({ block: "center" });
    } else if (wanted) window.scrollTo(0, 0);
  };

  const compared = (a, b) => {
    const [x, y] = [a, b].map((v) => (v === "" || v === undefined ? NaN : Number(v)));
    if (Number.isNaN(x) && Number.isNaN(y)) return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
    return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : x - y;
  };

  // host: where the tools go · body: whose children the items are · keys: {name, largest first, value(item)}
  const tools = (host, body, items, keys, name, heads) => {
    let all = items.length <= FIRST;
    let order = items;
    let current = -1;
    let down = false;
    const texts = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
    const filter = made("input", { type: "search", placeholder: "every word of …", autocomplete: "off" });
    const count = made("span", { className: "count" });
    count.setAttribute("aria-live", "polite");
    const more = made("button", { className: "more", type: "button" });
    const select = made("select", {}, made("option", { value: -1 }, "as they come"));
    keys.forEach((key, n) => select.append(made("option", { value: n }, key.name)));
    const turn = made("button", { type: "button", title: "turn the order" }, "⇅");

    const draw = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = order.filter((item) => words.every((word) => texts.get(item).includes(word)));
      const shown = new Set(all ? found : found.slice(0, FIRST));
      for (const item of items) item.hidden = !shown.has(item);
      more.hidden = shown.size === found.length;
      more.textContent = `show all ${found.length}`;
      count.textContent = words.length ? `${found.length} of ${items.length} ${name}` : `${items.length} ${name}`;
    };
    const sort = (n, backwards) => {
      [current, down] = [n, backwards];
      order = [...items];
      if (n >= 0) {
        const values = new Map(items.map((item) => [item, keys[n].value(item)]));
        const none = (item) => values.get(item) === "" || values.get(item) === undefined;
        order.sort((a, b) => none(a) - none(b) || (down ? -1 : 1) * compared(values.get(a), values.get(b)));
      }
      body.append(...order);
      heads.forEach((head, k) => {
        if (k === n) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      select.value = n;
      draw();
    };
    filter.addEventListener("input", draw);
    more.addEventListener("click", () => { all = true; draw(); });
    select.addEventListener("change", () => sort(Number(select.value), keys[select.value]?.largest ?? false));
    turn.addEventListener("click", () => sort(current, !down));
    heads.forEach((head, n) => {
      const button = made("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(n, current === n ? !down : keys[n].largest));
    });
    const bar = made("div", { className: "tools" },
      made("label", {}, "filter ", filter),
      made("label", { className: "sorter" }, "sort by ", select, turn), count);
    if (items.length > 5) host.prepend(bar);
    host.append(more);
    draw();
  };

  for (const host of document.querySelectorAll(".table")) {
    const heads = [...host.querySelectorAll("th")];
    const body = host.querySelector("tbody");
    const keys = heads.map((head, n) => ({
      name: head.textContent,
      largest: head.classList.contains("number"),
      value: (row) => row.cells[n].dataset.v ?? (head.classList.contains("number") ? "" : row.cells[n].textContent),
    }));
    tools(host, body, [...body.rows], keys, host.dataset.name, heads);
  }
  for (const host of document.querySelectorAll("[data-sorts]")) {
    const body = host.firstElementChild;
    const keys = host.dataset.sorts.split("|").map((name, n) => ({
      name, largest: false, value: (item) => item.dataset.v.split(" ")[n].replace("none", ""),
    }));
    tools(host, body, [...body.children], keys, host.dataset.name, []);
  }
  document.documentElement.classList.add("ready");
  addEventListener("hashchange", show);
  show();
}
