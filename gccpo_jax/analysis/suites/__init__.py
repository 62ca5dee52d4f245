"""Experiments without training: does step credit see what a checker sees?"""
