"""Everything that exists for the starter encoder alone: its towers, its class space, its weights and its card."""
