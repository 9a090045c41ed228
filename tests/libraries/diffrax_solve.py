"""Many predators and their prey, solved by Diffrax. Lines that jaxaccel needs are marked `# added`."""

import diffrax
import jax
import jax.numpy as jnp


def vector_field(t, y, args):
    prey, predator = y
    a, b, c, d = args
    return a * prey - b * prey * predator, -c * predator + d * prey * predator


@jax.jit
def solve(y0, args):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field),
        diffrax.Tsit5(),
        t0=0.0,
        t1=10.0,
        dt0=0.1,
        y0=y0,
        args=args,
        saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 10.0, 11)),
        stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5),
    )
    return solution.ys


def make_args(size):  # added
    y0 = (jnp.linspace(5.0, 15.0, size), jnp.linspace(10.0, 5.0, size))
    args = jnp.array([0.1, 0.02, 0.4, 0.02])
    return y0, args  # added
