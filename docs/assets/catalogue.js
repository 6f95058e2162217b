// Hides the rows of the catalogue that lack a word of its search field.
function searchCatalogue() {
  const catalogue = document.querySelector('.catalogue');
  if (!catalogue) return;
  const field = catalogue.querySelector('input');
  const rows = [...catalogue.querySelectorAll('tbody tr')];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const search = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let found = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      found += row.hidden ? 0 : 1;
    });
    catalogue.querySelector('output').textContent = found;
  };
  field.addEventListener('input', search);
  field.value = new URLSearchParams(location.search).get('models') ?? field.value;
  search();
}
document.addEventListener('DOMContentLoaded', searchCatalogue);
