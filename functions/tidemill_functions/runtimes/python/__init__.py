"""Runs Python functions under AWS's awslambdaric, by the interpreter that was asked for."""
