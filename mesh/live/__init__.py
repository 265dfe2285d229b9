"""The thin shell: hosts over ssh, services over HTTP. Everything that talks to the mesh is here and in deploys/."""
