"""Encoders as ONNX files: written from torch, run by onnxruntime."""
