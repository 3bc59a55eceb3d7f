(function () {
  "use strict";
  var boxes = [].map.call(document.querySelectorAll("g"), function (g) {
    var rect = g.querySelector("rect");
    return {
      g: g, rect: rect, text: g.querySelector("text"),
      name: g.querySelector("title").textContent,
      x: +rect.getAttribute("x"), y: +rect.getAttribute("y"), w: +rect.getAttribute("width"),
    };
  });
  if (!boxes.length) return;
  var all = boxes[0], said = document.getElementById("said"), before = said.textContent;
  function show(to) {
    var scale = all.w / to.w;
    boxes.forEach(function (box) {
      var below = box.y >= to.y && box.x <= to.x + 0.01 && box.x + box.w >= to.x + to.w - 0.01;
      var above = box.y <= to.y && box.x >= to.x - 0.01 && box.x + box.w <= to.x + to.w + 0.01;
      box.g.style.display = below || above ? "" : "none";
      var x = below ? all.x : all.x + (box.x - to.x) * scale, w = below ? all.w : box.w * scale;
      box.rect.setAttribute("x", x);
      box.rect.setAttribute("width", w);
      box.text.setAttribute("x", x + 3);
      var letters = Math.floor((w - 6) / 6.6), name = box.name.replace(/ \([^(]*\)$/, "");
      box.text.textContent = letters >= name.length ? name
        : letters < 4 ? "" : name.slice(0, letters - 2) + "..";
    });
  }
  boxes.forEach(function (box) {
    box.g.addEventListener("click", function () { show(box); });
    box.g.addEventListener("keydown", function (e) { if (e.key === "Enter") show(box); });
    box.g.addEventListener("mouseover", function () { said.textContent = box.name; });
    box.g.addEventListener("focus", function () { said.textContent = box.name; });
    box.g.addEventListener("mouseout", function () { said.textContent = before; });
  });
  document.addEventListener("keydown", function (e) { if (e.key === "Escape") show(all); });
})();
