#!/bin/sh
exec python3 -m mesh.doubles qdrant
