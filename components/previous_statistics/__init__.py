"""Finds what data are compared with, on engines without resolvers of ML Metadata."""
