"""The compiler: a spec and the stack folders in, a Deployment out. Pure but for `StackLibrary.load` and `ImageLock.load`."""
