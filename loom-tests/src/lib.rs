//! Models of quoit's rings, over the code that ships.
