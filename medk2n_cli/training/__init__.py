"""The torch room: simulate, fit, evaluate, export, bench. Nothing imports it; inference never imports torch."""
