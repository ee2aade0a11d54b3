//! The JSON Schema of the file, made of its shape.
