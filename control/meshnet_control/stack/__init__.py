"""Stack files by the Compose specification: what they say, and what follows for a cluster.

```
 files ──reading──> one tree ──model──> Stack (Engine JSON) ──plan──> steps ──cli.stack──> requests
         merging, interpolation                  observed objects ┘
```
"""
