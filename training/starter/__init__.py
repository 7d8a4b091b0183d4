"""How the starter encoder is made: pictures from packages, scenes composed of them, and its text classifiers."""
