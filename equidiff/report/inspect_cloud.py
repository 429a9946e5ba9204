"""A point cloud to turn with the mouse: a canvas and plain JavaScript, with a still picture where that does not run."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from equidiff.report.inspect_pictures import image_uri

__all__ = ["CLOUD_SCRIPT", "cloud_view", "still", "voxel_points"]

_MOST = 8192  # points drawn


def cloud_view(points: NDArray[Any], caption: str, dot: float = 0.006, box: tuple[float, float] | None = None) -> str:
    """points (P, 6): xyz and rgb in 0..1, or (P, 3). HTML with the canvas and the still picture.

    dot: size of a point in the unit of xyz. box: (low, high) of the drawn cube on every axis; None: what the points
    fill.
    """
    kept = np.asarray(points, dtype=np.float64)
    kept = kept[np.isfinite(kept).all(1)]
    kept = kept[:: max(1, -(-len(kept) // _MOST))]
    if not len(kept):
        return '<p class="note">The cloud has no finite point.</p>'
    colours = _colours(kept)
    low, high = (np.full(3, b) for b in box) if box else (kept[:, :3].min(0), kept[:, :3].max(0))
    middle, size = (low + high) / 2, float(np.linalg.norm(high - low)) / 2 or 1.0
    unit = np.clip((kept[:, :3] - middle) / size, -1, 1)
    data = np.concatenate([np.round(unit * 32767).astype("<i2").view(np.uint8).reshape(len(unit), 6), colours], 1)
    text = base64.b64encode(np.ascontiguousarray(data).tobytes()).decode()
    image = image_uri(still(unit, colours, dot / size))
    corners = ",".join(f"{v:.4f}" for v in (*((low - middle) / size), *((high - middle) / size)))
    return (
        f'<figure class="cloud"><img alt="{caption}" src="{image}"><canvas hidden data-points="{text}" '
        f'data-box="{corners}" '
        f'data-dot="{dot / size:.5f}" aria-label="{caption}" tabindex="0"></canvas>'
        f"<figcaption>{caption} Drag to turn, scroll to come closer.</figcaption></figure>"
    )


def still(
    unit: NDArray[Any], colours: NDArray[np.uint8], dot: float, side: int = 640, yaw: float = -0.6, pitch: float = 0.5
) -> Image.Image:
    """The cloud (P, 3), in the unit ball, from one side; the far points first."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    x, y, z = unit.T
    right, away = x * cy - y * sy, x * sy + y * cy
    up, depth = z * cp + away * sp, away * cp - z * sp
    scale = 1 / (1 + depth / 3.2)
    u, v = side * (0.5 + 0.46 * right * scale), side * (0.5 - 0.46 * up * scale)
    picture = Image.new("RGB", (side, side), (24, 27, 33))
    pen = ImageDraw.Draw(picture)
    for i in np.argsort(-depth):
        r = max(1.0, dot * side * 0.46 * scale[i])
        pen.rectangle([u[i] - r, v[i] - r, u[i] + r, v[i] + r], fill=tuple(int(c) for c in colours[i]))
    return picture


def voxel_points(grid: NDArray[Any], side: float = 2.0) -> NDArray[np.float64]:
    """Occupied cells of a grid (4, S, S, S) = (occupancy, R, G, B) on (z from the top, y from the left, x) as (P, 6).

    The cells fill a cube of `side` about the origin.
    """
    zi, yi, xi = np.nonzero(np.asarray(grid[0]) > 127)
    cells = grid.shape[1]
    at = lambda i: ((i + 0.5) / cells - 0.5) * side
    rgb = grid[1:4, zi, yi, xi].T.astype(np.float64) / 255 if len(grid) >= 4 else np.full((len(zi), 3), 0.6)
    return np.column_stack([at(xi), -at(yi), -at(zi), rgb])


def _colours(points: NDArray[Any]) -> NDArray[np.uint8]:
    from equidiff.report.inspect_charts import ramp

    if points.shape[1] >= 6:
        return np.asarray((np.clip(points[:, 3:6], 0, 1) * 255).round(), dtype=np.uint8)
    z = points[:, 2]
    return ramp((z - z.min()) / max(float(np.ptp(z)), 1e-9))


CLOUD_SCRIPT = """
for(const c of document.querySelectorAll('.cloud canvas')){
const g=c.getContext('2d');if(!g)continue;
const b=Uint8Array.from(atob(c.dataset.points),s=>s.charCodeAt(0)),v=new DataView(b.buffer),n=b.length/9;
const P=new Float32Array(n*3),C=[];
for(let i=0;i<n;i++){for(let j=0;j<3;j++)P[3*i+j]=v.getInt16(9*i+2*j,true)/32767;
C.push('rgb('+b[9*i+6]+','+b[9*i+7]+','+b[9*i+8]+')')}
const B=c.dataset.box.split(',').map(Number),dot=+c.dataset.dot,order=new Uint32Array(n),D=new Float32Array(n);
for(let i=0;i<n;i++)order[i]=i;
let yaw=-.6,pitch=.5,zoom=1,held=null,turning=!matchMedia('(prefers-reduced-motion: reduce)').matches,seen=true;
c.previousElementSibling.hidden=true;c.hidden=false;
const view=(x,y,z)=>{const cy=Math.cos(yaw),sy=Math.sin(yaw),cp=Math.cos(pitch),sp=Math.sin(pitch);
const r=x*cy-y*sy,a=x*sy+y*cy,d=a*cp-z*sp,s=1/(1+d/3.2);return[r*s,(z*cp+a*sp)*s,d,s]};
function draw(){const w=c.clientWidth,k=window.devicePixelRatio||1;c.width=w*k;c.height=w*.72*k;
const S=Math.min(c.width,c.height)*.5*zoom,ox=c.width/2,oy=c.height/2;
const U=new Float32Array(n),V=new Float32Array(n),R=new Float32Array(n);
for(let i=0;i<n;i++){const q=view(P[3*i],P[3*i+1],P[3*i+2]);U[i]=ox+S*q[0];
V[i]=oy-S*q[1];D[i]=q[2];R[i]=Math.max(k,2*dot*S*q[3])}
order.sort((i,j)=>D[j]-D[i]);
g.fillStyle='#181b21';g.fillRect(0,0,c.width,c.height);
g.strokeStyle='rgba(255,255,255,.22)';g.lineWidth=k;g.beginPath();
const corner=m=>view(B[m&1?3:0],B[m&2?4:1],B[m&4?5:2]);
for(const[p,q]of[[0,1],[2,3],[4,5],[6,7],[0,2],[1,3],[4,6],[5,7],[0,4],[1,5],[2,6],[3,7]]){
const e=corner(p),f=corner(q);
g.moveTo(ox+S*e[0],oy-S*e[1]);g.lineTo(ox+S*f[0],oy-S*f[1])}g.stroke();
for(const i of order){g.fillStyle=C[i];g.fillRect(U[i]-R[i]/2,V[i]-R[i]/2,R[i],R[i])}
g.font=12*k+'px system-ui';[['x',3,1,2,'#ff7b72'],['y',0,4,2,'#7ee787'],['z',0,1,5,'#79c0ff']].forEach(([t,x,y,z,f])=>{
const o=view(B[0],B[1],B[2]),e=view(B[x],B[y],B[z]);g.strokeStyle=g.fillStyle=f;g.lineWidth=2*k;g.beginPath();
g.moveTo(ox+S*o[0],oy-S*o[1]);g.lineTo(ox+S*e[0],oy-S*e[1]);g.stroke();g.fillText(t,ox+S*e[0]*1.03,oy-S*e[1]*1.03)})}
function loop(){if(turning&&seen){yaw+=.006;draw()}if(turning)requestAnimationFrame(loop)}
c.addEventListener('pointerdown',e=>{held=[e.clientX,e.clientY];turning=false;c.setPointerCapture(e.pointerId)});
c.addEventListener('pointermove',e=>{if(!held)return;yaw-=(e.clientX-held[0])*.01;
pitch=Math.max(-1.55,Math.min(1.55,pitch+(e.clientY-held[1])*.01));held=[e.clientX,e.clientY];draw()});
c.addEventListener('pointerup',()=>held=null);
c.addEventListener('wheel',e=>{e.preventDefault();turning=false;
zoom=Math.max(.3,Math.min(8,zoom*Math.exp(-e.deltaY*.001)));draw()},{passive:false});
c.addEventListener('keydown',e=>{const s={ArrowLeft:[.1,0],ArrowRight:[-.1,0],ArrowUp:[0,.1],ArrowDown:[0,-.1]}[e.key];
if(s){e.preventDefault();turning=false;yaw+=s[0];pitch=Math.max(-1.55,Math.min(1.55,pitch+s[1]));draw()}});
if('IntersectionObserver'in window)new IntersectionObserver(e=>seen=e[e.length-1].isIntersecting).observe(c);
addEventListener('resize',draw);draw();loop()}
"""
"""Finds every canvas that `cloud_view` wrote and brings it to life."""
