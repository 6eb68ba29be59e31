"""The resource types that CloudFormation stacks make in the programs, by their public APIs alone."""
