"""How far a result can be trusted, measured: against the patient's own acquired images, against another result."""
