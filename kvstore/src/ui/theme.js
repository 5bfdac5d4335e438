// Light or dark as this browser was told, before anything is shown; else as its owner has it everywhere.
const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
