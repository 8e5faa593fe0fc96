// What a reader would see of the part of a page that is shown, as a list of complaints.
() => {
  const complaints = [];
  const wide = document.documentElement.clientWidth;
  const parsed = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parsed(getComputedStyle(e).backgroundColor);
      if (colour.a === 1) return colour;
    }
    return parsed(getComputedStyle(document.documentElement).colorScheme.includes("dark") && matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(0,0,0)" : "rgb(255,255,255)");
  };
  const contrast = (front, back) => {
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const say = (what, text) => complaints.push(`${what}: ${text.trim().slice(0, 60)}`);

  if (document.documentElement.scrollWidth > wide) complaints.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode;
    const element = text.parentElement;
    if (!text.data.trim() || element.closest("script, style, title, option") || !element.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const box of range.getClientRects()) {
      if (box.width < 1) continue;
      if (box.left < -0.5 || box.right > wide + 0.5) say("cut", text.data);
      boxes.push({ box, text: text.data, element });
    }
    const ratio = contrast(parsed(getComputedStyle(element).color), behind(element));
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, text.data);
  }
  for (const input of document.querySelectorAll("input")) {
    if (!input.checkVisibility()) continue;
    const ratio = contrast(parsed(getComputedStyle(input, "::placeholder").color), behind(input));
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, input.placeholder);
  }
  boxes.sort((a, b) => a.box.top - b.box.top);
  boxes.forEach(({ box, text }, k) => {
    for (let n = k + 1; n < boxes.length && boxes[n].box.top < box.bottom - 3; n++) {
      const other = boxes[n].box;
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      if (across > 1.5 && down > 3) say("overlap", `${text.trim().slice(0, 25)} / ${boxes[n].text}`);
    }
  });
  for (const part of document.querySelectorAll("section, figure, .table, .tiles, .gallery, .network, tbody, svg, dl")) {
    if (!part.checkVisibility()) continue;
    const box = part.getBoundingClientRect();
    if (box.width < 20 || box.height < 5) say("empty", part.outerHTML);
    if (part.matches("svg") && ![...part.querySelectorAll("path")].some((p) => p.getBBox().width + p.getBBox().height > 0 || p.classList.contains("dot"))) say("empty drawing", part.getAttribute("aria-label"));
  }
  if (!boxes.length) complaints.push("nothing to read");
  return complaints;
}
