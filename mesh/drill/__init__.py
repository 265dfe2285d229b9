"""`mesh drill`: the rendered gateway, as it is, beside doubles of every provider; every fault and every leak is tried."""
