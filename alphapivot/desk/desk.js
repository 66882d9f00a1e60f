// The desk's page: it shows the sections as the server sends them, draws charts, and asks before it acts.
const at = id => document.getElementById(id);
const KEY = 'alphapivot-desk';
const chosen = {trade: null, symbol: null};

function asked(path, options = {}) {
  const session = localStorage.getItem(KEY);
  const headers = session ? {Authorization: `Bearer ${session}`} : {};
  return fetch(path, {...options, headers});
}

function draw(place, figure) {
  const small = innerWidth < 600;
  figure.layout.autosize = true;
  figure.layout.dragmode = small ? false : 'zoom';
  if (small && place.id === 'waterfall') figure.data[0].textposition = 'none';  // the numbers stand below
  return Plotly.react(place, figure.data, figure.layout, {responsive: true, displaylogo: false, displayModeBar: false});
}

async function figure(path) {
  const reply = await asked(path);
  return reply.ok ? reply.json() : null;
}

async function equity() {
  const content = await figure('/equity');
  if (content) draw(at('equity'), content);
}

async function price() {
  const trades = [...document.querySelectorAll('.position')];
  const card = trades.find(t => t.dataset.trade === chosen.trade) || trades[0];
  chosen.trade = card ? card.dataset.trade : null;
  trades.forEach(t => t.classList.toggle('chosen', t === card));
  const content = card ? await figure(`/chart/${chosen.trade}`) : null;
  at('priced').hidden = !content;
  if (!content) return;
  at('price-title').textContent = card.querySelector('b').textContent;
  draw(at('price'), content);
}

async function explain() {
  if (!chosen.symbol) return;
  const content = await figure(`/explain/${encodeURIComponent(chosen.symbol)}`);
  at('made').hidden = !content;
  if (!content) return;
  at('made-title').textContent = content.title;
  at('made-of').innerHTML = content.html;
  draw(at('waterfall'), content.figure);
}

function show(sections) {
  for (const [name, html] of Object.entries(sections)) {
    const place = at(name), scrolled = [...place.querySelectorAll('.scroll')].map(s => [s.scrollLeft, s.scrollTop]);
    place.innerHTML = html;  // every text in it was escaped by the server
    place.querySelectorAll('.scroll').forEach((s, n) => scrolled[n] && s.scrollTo(...scrolled[n]));
  }
  if ('tiles' in sections) equity();
  if ('trades' in sections) price();
  if ('scores' in sections) explain();
}

const pulse = (text, bad = false) => { at('pulse').textContent = text; at('pulse').classList.toggle('lost', bad); };

async function live() {
  for (;;) {
    try {
      const reply = await asked('/live');
      if (reply.status === 401) return login();
      if (!reply.ok) throw new Error(await reply.text());
      at('desk').hidden = false; at('login').hidden = true;
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = '';
      for (;;) {
        const {value, done} = await reader.read();
        if (done) break;
        text += value;
        const events = text.split('\n\n');
        text = events.pop();
        for (const event of events) {
          pulse('live');
          if (event.startsWith('data: ')) show(JSON.parse(event.slice(6)));
        }
      }
    } catch (error) { console.info(`the stream ended: ${error}`); }
    pulse('the desk does not answer; what you see may be old. Trying again ...', true);
    await new Promise(wake => setTimeout(wake, 2000));
  }
}

async function enter(given) {
  const reply = await fetch('/login', {method: 'POST', body: given});
  if (reply.ok) localStorage.setItem(KEY, await reply.text());
  else at('refused').textContent = await reply.text();
  return reply.ok;
}

function login() {
  localStorage.removeItem(KEY);
  at('desk').hidden = true; at('login').hidden = false;
  pulse('not logged in');
}

at('login').addEventListener('submit', async event => {
  event.preventDefault();
  if (await enter(at('string').value)) { at('string').value = ''; live(); }
});

let order = null;
document.addEventListener('click', event => {
  const button = event.target.closest('[data-action]'), score = event.target.closest('[data-explain]');
  const card = event.target.closest('.position');
  if (button) confirm(button.dataset);
  else if (score) { chosen.symbol = score.dataset.explain; explain().then(() => at('made').scrollIntoView({block: 'nearest'})); }
  else if (card) { chosen.trade = card.dataset.trade; price(); }
});
document.addEventListener('keydown', event => {
  if (event.key === 'Enter' && event.target.matches('.position')) event.target.click();
});

function confirm(data) {
  order = {action: data.action};
  for (const [name, value] of Object.entries(data)) {
    if (name.startsWith('word')) order[name.slice(4).toLowerCase()] = value;
  }
  at('what').textContent = data.named;
  at('do').textContent = data.named;
  at('effect').textContent = `${data.effect}.`;
  at('asked').hidden = data.ask !== 'qty';
  at('qty').value = ''; at('reason').value = ''; at('no').hidden = true;
  at('confirm').showModal();
  at('reason').focus();
}

at('cancel').addEventListener('click', () => at('confirm').close());
at('confirm').querySelector('form').addEventListener('submit', async event => {
  event.preventDefault();
  if (!at('reason').value.trim()) return at('reason').focus();
  at('do').disabled = true;
  try {
    const words = {...order, reason: at('reason').value};
    if (!at('asked').hidden) words.qty = at('qty').value;
    const reply = await asked('/act', {method: 'POST', body: JSON.stringify(words)});
    const text = await reply.text();
    if (reply.ok) { at('confirm').close(); at('said').textContent = text; at('said').hidden = false; }
    else { at('no').textContent = text; at('no').hidden = false; }
  } catch {
    at('no').textContent = 'no answer: it may have been done. Look at the journal before you try again.';
    at('no').hidden = false;
  } finally { at('do').disabled = false; }
});

addEventListener('hashchange', () => location.reload());  // a new link in a window that is open

(async () => {
  const code = location.hash.slice(1);
  if (code) { history.replaceState(null, '', '/'); await enter(code); }
  live();
})();
