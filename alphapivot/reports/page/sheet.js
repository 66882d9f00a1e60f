// A chart is drawn when it comes into sight: a page of many opens at once, and each is as wide as its place.
const data = id => JSON.parse(document.getElementById(id).textContent);
const small = () => innerWidth < 600;
function draw(place, id) {
  const figure = data(id), layout = figure.layout;
  layout.autosize = true; layout.dragmode = small() ? false : 'zoom';
  if (small()) { layout.font.size = 11; layout.margin.l = 40; layout.margin.r = 8; }
  return Plotly.react(place, figure.data, layout, {responsive: true, displaylogo: false, displayModeBar: false});
}
const now = place => { watch.unobserve(place); draw(place, place.dataset.figure); };
const near = {rootMargin: '300px'};
const watch = new IntersectionObserver(seen => seen.filter(s => s.isIntersecting).forEach(s => now(s.target)), near);
const plots = [...document.querySelectorAll('.plot')];
plots.forEach(place => {
  place.style.minHeight = data(place.dataset.figure).layout.height + 'px';
  watch.observe(place);
});
addEventListener('beforeprint', () => plots.forEach(now));
const choice = document.getElementById('symbol');
if (choice) choice.addEventListener('change', () => {
  const place = document.querySelector('#prices .plot');
  place.dataset.figure = choice.value;
  Plotly.purge(place);
  draw(place, choice.value);
});
