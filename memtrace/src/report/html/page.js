
// Search and zoom. The page reads without it. `#text` at the end of the address searches for the text.
(function () {
  "use strict";
  var graph = document.getElementById("graph");
  if (!graph) return;
  var search = document.getElementById("search");
  var found = document.getElementById("found");
  var rows = Array.from(document.querySelectorAll("tr.stack"));
  var frames = Array.from(graph.querySelectorAll(".f")).map(function (box) {
    return {
      box: box,
      left: parseFloat(box.getAttribute("x")),
      width: parseFloat(box.getAttribute("width")),
      row: parseFloat(box.getAttribute("y")),
      name: box.querySelector("text").textContent.toLowerCase()
    };
  });
  // Percentages in the page have three decimals.
  var SLACK = 0.002;

  function look() {
    var text = search.value.trim().toLowerCase();
    var share = 0, reached = 0;
    frames.forEach(function (frame) {
      var hit = text !== "" && frame.name.indexOf(text) >= 0;
      frame.box.classList.toggle("hit", hit);
      frame.box.classList.toggle("miss", text !== "" && !hit);
    });
    // What lies below a match is part of it: the union of the matches counts.
    frames.filter(function (frame) { return frame.box.classList.contains("hit"); })
      .sort(function (a, b) { return a.left - b.left; })
      .forEach(function (frame) {
        var end = frame.left + frame.width;
        share += Math.max(0, end - Math.max(frame.left, reached));
        reached = Math.max(reached, end);
      });
    rows.forEach(function (row) {
      row.classList.toggle("miss", text !== "" && row.textContent.toLowerCase().indexOf(text) < 0);
    });
    found.textContent = text === "" ? "" : share.toFixed(1) + "% is in or below matches";
  }

  function zoom(to) {
    frames.forEach(function (frame) {
      var end = frame.left + frame.width, toEnd = to.left + to.width;
      var above = frame.row < to.row && frame.left <= to.left + SLACK && end >= toEnd - SLACK;
      var inside = frame.row >= to.row && frame.left >= to.left - SLACK && end <= toEnd + SLACK;
      frame.box.classList.toggle("out", !above && !inside);
      frame.box.classList.toggle("above", above);
      frame.box.setAttribute("x", above ? "0%" : (frame.left - to.left) / to.width * 100 + "%");
      frame.box.setAttribute("width", above ? "100%" : frame.width / to.width * 100 + "%");
    });
  }

  frames.forEach(function (frame) {
    frame.box.addEventListener("click", function () { zoom(frame); });
  });
  search.addEventListener("input", look);
  document.getElementById("reset").addEventListener("click", function () {
    search.value = "";
    look();
    zoom({ left: 0, width: 100, row: 0 });
  });
  function fromAddress() {
    try {
      search.value = decodeURIComponent(location.hash.slice(1));
    } catch (_malformed) {
      return;
    }
    look();
  }
  window.addEventListener("hashchange", fromAddress);
  document.getElementById("controls").hidden = false;
  if (location.hash.length > 1) fromAddress();
})();
