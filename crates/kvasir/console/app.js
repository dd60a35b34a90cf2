document.querySelector(".boot").textContent = "Kvasir";
