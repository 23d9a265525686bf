// The top of the heading that begins with a text, in CSS pixels of the page; 0 if there is none.
(text => {
  const headings = [...document.querySelectorAll("h1, h2, h3")];
  const match = headings.find(heading => heading.textContent.trim().startsWith(text));
  return match ? match.getBoundingClientRect().top + scrollY - 12 : 0;
})
