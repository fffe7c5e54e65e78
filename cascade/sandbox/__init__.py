"""A service on loopback that speaks OpenAI's wire format and really learns: for trying things out at no cost.

It knows nothing of the rest of the package but the embedded backend that it learns with: what it answers, it
learned from the uploaded examples alone. All state lives in a folder and outlives the process.

    server.serve   listens, until it is stopped
    chaos.Chaos    makes it fail as real services do, with a fixed seed
"""
