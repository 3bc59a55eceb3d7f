"""An event loop that one handler blocks."""
import asyncio
import time


async def handler():
    await asyncio.sleep(0.05)
    time.sleep(0.2)  # ought to be: await asyncio.sleep(0.2)


async def ticker():
    for _ in range(40):
        await asyncio.sleep(0.01)


async def main():
    await asyncio.gather(ticker(), *(handler() for _ in range(4)))


asyncio.run(main())
